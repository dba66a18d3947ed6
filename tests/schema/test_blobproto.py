from __future__ import annotations

import numpy as np
import pytest

from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text
from moka.schema.blobproto import from_array, shape_of, to_array


def blob(text: str) -> caffe_pb2.BlobProto:
    return parse_text(text, caffe_pb2.BlobProto)


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("shape { dim: 2 dim: 3 }", (2, 3)),
        ("shape { }", ()),
        ("", ()),
        ("num: 1 channels: 2 height: 3 width: 4", (1, 2, 3, 4)),
        ("num: 1 channels: 1 height: 1 width: 5", (1, 1, 1, 5)),
        ("width: 5", (0, 0, 0, 5)),
        ("num: 1 channels: 2 height: 3 width: 4 shape { dim: 24 }", (1, 2, 3, 4)),
    ],
)
def test_shape_of(text: str, shape: tuple[int, ...]) -> None:
    assert shape_of(blob(text)) == shape


@pytest.mark.parametrize(
    ("text", "diff", "values"),
    [
        ("shape { dim: 2 } data: 1 data: 2 diff: 3 diff: 4", False, [1, 2]),
        ("shape { dim: 2 } data: 1 data: 2 diff: 3 diff: 4", True, [3, 4]),
        ("shape { dim: 1 dim: 2 } double_data: 1 double_data: 2", False, [[1, 2]]),
        ("shape { dim: 1 } double_diff: 0.5", True, [0.5]),
        ("shape { } data: 7", False, 7),
    ],
)
def test_to_array(text: str, diff: bool, values: object) -> None:
    array = to_array(blob(text), diff=diff)
    assert array.dtype == np.float32
    assert array.tolist() == values


@pytest.mark.parametrize("diff", [False, True])
def test_a_count_that_does_not_fit(diff: bool) -> None:
    with pytest.raises(SchemaError, match=r"a blob of shape \(2, 3\) holds 1 numbers"):
        to_array(blob("shape { dim: 2 dim: 3 } data: 1 diff: 1"), diff=diff)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 1, 2)])
def test_round_trip(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    data, diff = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    made = caffe_pb2.BlobProto.FromString(from_array(data, diff).SerializeToString())
    assert shape_of(made) == shape
    np.testing.assert_array_equal(to_array(made), data)
    np.testing.assert_array_equal(to_array(made, diff=True), diff)


def test_without_diff() -> None:
    assert not from_array(np.ones(2, np.float32)).diff


def test_arrays_in_any_layout_are_stored_row_by_row() -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3).T
    assert list(from_array(array).data) == [0, 3, 1, 4, 2, 5]  # type: ignore[arg-type]
