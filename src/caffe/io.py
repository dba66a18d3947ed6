"""`caffe.io`: arrays to messages and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moka.data import datum as moka_datum
from moka.schema import blobproto, caffe_pb2


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> NDArray[np.float32]:
    """The data (or diff) of a BlobProto as a float32 array in its shape."""
    return blobproto.to_array(blob, diff=return_diff)


def array_to_blobproto(
    arr: NDArray[np.float32], diff: NDArray[np.float32] | None = None
) -> caffe_pb2.BlobProto:
    """A BlobProto of an array, with `diff` if given."""
    return blobproto.from_array(np.asarray(arr), None if diff is None else np.asarray(diff))


def array_to_datum(arr: moka_datum.Image, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of a (C, H, W) array; uint8 goes to `data`, everything else to `float_data`."""
    if arr.ndim != 3:
        raise ValueError("Incorrect array shape.")
    return moka_datum.encode(arr, label)


def datum_to_array(datum: caffe_pb2.Datum) -> moka_datum.Image:
    """The (C, H, W) array of a Datum; an encoded image is decoded, to BGR."""
    return moka_datum.decode(datum)
