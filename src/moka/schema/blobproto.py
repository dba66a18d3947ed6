"""BlobProto to array and back. Files store weights, means and histories as BlobProtos."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from google.protobuf.unknown_fields import UnknownFieldSet

from moka.errors import SchemaError
from moka.schema import caffe_pb2
from moka.types import Array, Floats, Shape

_KINDS = {"INT": "i", "UINT": "u", "BOOL": "u"}  # of NumPy's types; the others are floats
_PACKED_DATA = 11  # of the OpenCL branch
_LENGTH_DELIMITED = 2  # protobuf's mark of a field that begins with its length

MOST_AXES = 32  # of a blob, as in BVLC Caffe
LEGACY = ("num", "channels", "height", "width")


def is_legacy(blob: caffe_pb2.BlobProto) -> bool:
    """Whether the shape is written in the four fields of 2014 and before."""
    return any(blob.HasField(name) for name in LEGACY)


def shape_of(blob: caffe_pb2.BlobProto) -> tuple[int, ...]:
    """The shape, from `shape` or the legacy num, channels, height, width (always 4-D)."""
    if is_legacy(blob):
        return tuple(getattr(blob, name) for name in LEGACY)
    return tuple(blob.shape.dim)


def fits(stored: Shape, wanted: Shape, *, legacy: bool) -> bool:
    """Whether a stored shape is the wanted one, which a legacy 4-D shape has with 1s in front."""
    return stored == ((1,) * (4 - len(wanted)) + wanted if legacy else wanted)


def to_array(blob: caffe_pb2.BlobProto, *, diff: bool = False) -> Floats:
    """The data (or diff) as a float32 array, whatever form a fork stored it in.

    Raises:
        SchemaError: the count of numbers does not fit the shape, or no blob has such a shape.
    """
    single, double = (blob.diff, blob.double_diff) if diff else (blob.data, blob.double_data)
    shape = shape_of(blob)
    with np.errstate(all="ignore"):  # numbers beyond float32 are infinite
        values = np.asarray(double if len(double) else single, dtype=np.float32)
        if not values.size and (raw := _raw_bytes(blob, diff=diff)):
            values = _from_bytes(raw, _raw_type(blob, diff=diff), prod(shape))
    return shaped(values, shape)


def shaped(values: Array, shape: Shape) -> Array:
    """Numbers in the shape that a file gives them.

    Raises:
        SchemaError: there are more or fewer, or no blob has such a shape.
    """
    if prod(shape) != values.size or min(shape, default=1) < 0 or len(shape) > MOST_AXES:
        raise SchemaError(f"a blob of shape {shape} holds {values.size} numbers.")
    return values.reshape(shape)


def _raw_bytes(blob: caffe_pb2.BlobProto, *, diff: bool) -> bytes:
    """Elements stored as bytes, by NVCaffe or by the OpenCL branch.

    Both give number 12 to such a field. In NVCaffe it is the data, beside its type; in the OpenCL
    branch the diff, after the data in number 11, which does not parse as NVCaffe's type.
    """
    if blob.HasField("raw_data_type") or blob.HasField("raw_diff_type"):
        return blob.raw_diff if diff else blob.raw_data
    unknown: Any = UnknownFieldSet(blob)
    packed = [field.data for field in unknown if field.field_number == _PACKED_DATA]
    if packed and isinstance(packed[0], bytes):
        return blob.raw_data if diff else packed[0]
    return blob.raw_diff if diff else blob.raw_data


def _raw_type(blob: caffe_pb2.BlobProto, *, diff: bool) -> caffe_pb2.Type | None:
    """The type of the bytes' elements; None if the file does not say it as NVCaffe does."""
    name = "raw_diff_type" if diff else "raw_data_type"
    return getattr(blob, name) if blob.HasField(name) else None


def _from_bytes(data: bytes, stored_type: caffe_pb2.Type | None, count: int) -> Floats:
    """Numbers in the order of bytes of x86 as float32; their count tells how wide they are.

    Raises:
        SchemaError: the bytes are not that many numbers of any width.
    """
    width = len(data) // count if count and len(data) % count == 0 else 0
    kind = "f" if stored_type is None else _KINDS.get(caffe_pb2.Type.Name(stored_type), "f")
    if width not in ((2, 4, 8) if kind == "f" else (1, 2, 4, 8)):
        raise SchemaError(f"a blob of {count} numbers holds {len(data)} bytes of raw data.")
    return np.frombuffer(data, f"<{kind}{width}").astype(np.float32)


def from_array(data: Floats, diff: Floats | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto with `shape`, data and, if given, diff."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(data.shape)
    _append(blob, "data", data)
    if diff is not None:
        _append(blob, "diff", diff)
    return blob


def _append(blob: caffe_pb2.BlobProto, field: str, values: Floats) -> None:
    """Append numbers to a packed field as the bytes that a file has of them: thirty times as fast
    as one by one."""
    data = values.astype("<f4", copy=False).tobytes()
    if data:
        tag = caffe_pb2.BlobProto.DESCRIPTOR.fields_by_name[field].number << 3 | _LENGTH_DELIMITED
        blob.MergeFromString(bytes([tag]) + _varint(len(data)) + data)


def _varint(value: int) -> bytes:
    """A whole number as protobuf writes it: seven bits a byte, the lowest first."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])
