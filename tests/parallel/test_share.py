from __future__ import annotations

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
