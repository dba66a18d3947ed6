"""BlobProto to array and back. Files store weights, means and histories as BlobProtos."""

from __future__ import annotations

from math import prod

import numpy as np

from moka.errors import SchemaError
from moka.schema import caffe_pb2
from moka.types import Floats, Shape

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
    """The data (or diff) as a float32 array.

    Raises:
        SchemaError: the count of numbers does not fit the shape.
    """
    single, double = (blob.diff, blob.double_diff) if diff else (blob.data, blob.double_data)
    values = np.asarray(double if len(double) else single, dtype=np.float32)
    shape = shape_of(blob)
    if prod(shape) != values.size:
        raise SchemaError(f"a blob of shape {shape} holds {values.size} numbers.")
    return values.reshape(shape)


def from_array(data: Floats, diff: Floats | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto with `shape`, data and, if given, diff."""
    blob = caffe_pb2.BlobProto()
    blob.shape.dim.extend(data.shape)
    blob.data.extend(data.astype(np.float32, copy=False).ravel())
    if diff is not None:
        blob.diff.extend(diff.astype(np.float32, copy=False).ravel())
    return blob
