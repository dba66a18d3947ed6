"""pycaffe's list types. Each is a Python list of one kind of thing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moka.blob import BlobVec, IntVec, RawBlobVec
from moka.layers.python import BoolVec

if TYPE_CHECKING:
    from caffe.net import Net

__all__ = [
    "BlobVec",
    "BoolVec",
    "DtypeVec",
    "IntVec",
    "LayerVec",
    "NetVec",
    "RawBlobVec",
    "StringVec",
]


class StringVec(list[str]):
    """pycaffe's list of names."""


class DtypeVec(list[float]):
    """pycaffe's list of numbers."""


class LayerVec(list[Any]):
    """pycaffe's list of layers, which may be of any class of the user's."""


class NetVec(list["Net"]):
    """pycaffe's list of nets."""
