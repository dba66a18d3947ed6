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


RAW_TYPES = [
    (caffe_pb2.FLOAT, "<f4"),
    (caffe_pb2.FLOAT16, "<f2"),
    (caffe_pb2.DOUBLE, "<f8"),
    (caffe_pb2.INT, "<i4"),
    (caffe_pb2.UINT, "<u4"),
    (caffe_pb2.BOOL, "|u1"),
]


@pytest.mark.parametrize(("stored_type", "kind"), RAW_TYPES)
@pytest.mark.parametrize("diff", [False, True])
def test_blobs_of_nvcaffe(stored_type: caffe_pb2.Type, kind: str, diff: bool) -> None:
    values = np.array([0, 1, 1, 0, 1, 1] if "1" in kind else [0, 1, 2, 300, 4, 5], kind)
    made = blob("shape { dim: 2 dim: 3 }")
    setattr(made, "raw_diff_type" if diff else "raw_data_type", stored_type)
    setattr(made, "raw_diff" if diff else "raw_data", values.tobytes())
    np.testing.assert_array_equal(to_array(made, diff=diff), values.reshape(2, 3))


@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8"])
def test_blobs_of_the_opencl_branch(kind: str) -> None:
    """Data in 11 and diff in 12, which NVCaffe uses for a type and for data."""
    data, diff = np.array([1, 2.5], kind).tobytes(), np.array([3, 4], kind).tobytes()
    made = blob("shape { dim: 2 }")
    made.MergeFromString(b"\x5a" + bytes([len(data)]) + data + b"\x62" + bytes([len(diff)]) + diff)
    assert to_array(made).tolist() == [1, 2.5]
    assert to_array(made, diff=True).tolist() == [3, 4]


def test_raw_bytes_that_do_not_fit() -> None:
    made = blob("shape { dim: 3 }")
    made.raw_data_type, made.raw_data = caffe_pb2.FLOAT16, b"12345"
    with pytest.raises(SchemaError, match="a blob of 3 numbers holds 5 bytes of raw data"):
        to_array(made)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (31,), (32,), (3, 4), (5000,)])
def test_a_blob_is_stored_as_if_number_by_number(shape: tuple[int, ...]) -> None:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    expected = caffe_pb2.BlobProto()
    expected.shape.dim.extend(shape)
    expected.data.extend(data.ravel().tolist())
    expected.diff.extend((-data).ravel().tolist())
    assert from_array(data, -data) == expected
    assert from_array(data, -data).SerializeToString() == expected.SerializeToString()
    assert to_array(from_array(data.T)).tolist() == data.T.tolist()


@pytest.mark.parametrize(
    "text",
    [
        "num: 0 channels: -1 height: 3 width: 4",
        "shape { dim: -1 dim: -2 } data: 1 data: 2",
        "shape { " + "dim: 1 " * 99 + "} data: 1",
    ],
)
def test_shapes_that_no_blob_has(text: str) -> None:
    with pytest.raises(SchemaError, match=r"a blob of shape .* holds"):
        to_array(blob(text))


def test_doubles_beyond_float32() -> None:
    assert to_array(blob("shape { dim: 2 } double_data: 1e300 double_data: -1e300")).tolist() == [
        np.inf,
        -np.inf,
    ]
    raw = caffe_pb2.BlobProto(raw_data=np.array([1e300, 2], "<f8").tobytes())
    raw.raw_data_type = caffe_pb2.DOUBLE
    raw.shape.dim.append(2)
    assert to_array(raw).tolist() == [np.inf, 2]
