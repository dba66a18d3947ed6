from __future__ import annotations

<<<<<<< HEAD
from collections.abc import Iterator

import pytest

from moka import context
from moka.data.place import Share
from moka.parallel.share import share_of_data
from moka.schema import caffe_pb2


@pytest.fixture
def second_of_three() -> Iterator[None]:
    context.set_solver_count(3)
    context.set_solver_rank(1)
    yield
    context.set_solver_count(1)
    context.set_solver_rank(0)


@pytest.mark.usefixtures("second_of_three")
def test_each_solver_reads_its_part_in_training() -> None:
    assert share_of_data(caffe_pb2.TRAIN) == Share(1, 3)
    assert share_of_data(caffe_pb2.TEST) == Share()


def test_a_single_solver_reads_everything() -> None:
    assert share_of_data(caffe_pb2.TRAIN) == Share()
=======
from moka.data.place import Share
from moka.parallel.share import share_of_data
from moka.parallel.team import Alone
from moka.schema.caffe_pb2 import TEST, TRAIN


def test_each_process_trains_on_its_part_and_tests_on_all() -> None:
    assert share_of_data(TRAIN, Alone(2, 3)) == Share(2, 3)
    assert share_of_data(TRAIN, Alone()) == Share()
    assert share_of_data(TEST, Alone(2, 3)) == Share()
>>>>>>> solver
