from __future__ import annotations

from moka.data.place import Share
from moka.parallel.share import share_of_data
from moka.parallel.team import Alone
from moka.schema.caffe_pb2 import TEST, TRAIN


def test_each_process_trains_on_its_part_and_tests_on_all() -> None:
    assert share_of_data(TRAIN, Alone(2, 3)) == Share(2, 3)
    assert share_of_data(TRAIN, Alone()) == Share()
    assert share_of_data(TEST, Alone(2, 3)) == Share()
