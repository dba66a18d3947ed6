from __future__ import annotations

import pytest

from moka.command.phase import phase_of
from moka.errors import UsageError
from moka.schema import caffe_pb2


def test_phases() -> None:
    assert [phase_of(word) for word in ("TRAIN", "TEST", "ALL")] == [
        caffe_pb2.TRAIN,
        caffe_pb2.TEST,
        None,
    ]


def test_another_word() -> None:
    with pytest.raises(UsageError, match="--phase is TRAIN, TEST or ALL, found 'train'"):
        phase_of("train")
