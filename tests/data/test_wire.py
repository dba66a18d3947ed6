from __future__ import annotations

import numpy as np
import pytest

from moka.data.wire import find_bytes
from moka.schema import caffe_pb2

DATA = caffe_pb2.Datum.DATA_FIELD_NUMBER


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 20_000, 3_000_000])
@pytest.mark.parametrize("label", [0, -1, 5, 2**31 - 1])
def test_a_field_is_found(size: int, label: int) -> None:
    data = np.random.default_rng(0).bytes(size)
    datum = caffe_pb2.Datum(channels=300, data=data, label=label, encoded=True)
    datum.float_data.extend([1.5, 2.5])
    datum.labels.extend([0.5])
    value = datum.SerializeToString()
    where = find_bytes(value, DATA)
    assert where is not None
    begin, start, end = where
    assert value[start:end] == data
    datum.ClearField("data")
    assert caffe_pb2.Datum.FromString(value[:begin] + value[end:]) == datum


@pytest.mark.parametrize(
    "value",
    [
        b"",
        caffe_pb2.Datum(channels=3).SerializeToString(),  # not there
        caffe_pb2.Datum(data=b"abc").SerializeToString() * 2,  # twice
        caffe_pb2.Datum(data=b"abc").SerializeToString()[:-1],  # cut off
        caffe_pb2.Datum(data=b"abc").SerializeToString() + b"\x08",  # a key without a value
        b"\x22\xff",  # a length that does not end
        b"\x0b",  # a group
        b"\xff" * 30,
    ],
)
def test_a_field_that_is_not_there(value: bytes) -> None:
    assert find_bytes(value, DATA) is None


def test_other_kinds_of_fields_are_passed_over() -> None:
    value = b"\x09" + b"\xff" * 8 + b"\x15" + b"\xff" * 4 + b"\x22\x02hi"  # fixed64, fixed32
    assert find_bytes(value, DATA) == (14, 16, 18)
