"""`caffe.coord_map`: maps between the coordinates of a net's tops, and crops that align them, as
fully convolutional nets need (`moka.graph.coordinates` says what a map is)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from moka.graph.coordinates import (
    IDENTITY,
    AxisMismatchException,
    Map,
    UnalignedError,
    UndefinedMapException,
    aligning_crop,
    bottoms_of_map,
    compose,
    crop_of,
    inverse,
    map_from_to,
    map_of,
    window_of,
)
from moka.layers import REGISTRY, all_entries
from moka.net.spec import Function, Top, layers
from moka.schema import caffe_pb2

__all__ = [
    "PASS_THROUGH_LAYERS",
    "AxisMismatchException",
    "UndefinedMapException",
    "compose",
    "conv_params",
    "coord_map",
    "coord_map_from_to",
    "crop",
    "crop_params",
    "inverse",
]

# Layers whose output lies on their input.
PASS_THROUGH_LAYERS = [entry.type for entry in all_entries() if entry.coordinates == "same"]


def conv_params(
    fn: Function,
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Axis, stride, extent of the kernel (from its first to its last element) and pad of a layer
    with a sliding window, the last three as arrays of one number, or of one for each axis.

    Raises:
        UndefinedMapException: it has no kernel_size, as a global pooling.
    """
    return window_of(_message(fn), REGISTRY[fn.type_name])


def crop_params(fn: Function) -> tuple[int, NDArray[np.int64]]:
    """The first axis that a Crop layer crops, and its offsets: one, or one for each axis."""
    return crop_of(_message(fn))


def coord_map(fn: Function) -> Map:
    """The map from a layer's bottoms to its tops.

    Raises:
        UndefinedMapException: there is none for its type.
    """
    if fn.type_name in PASS_THROUGH_LAYERS:  # to which a program may have added
        return IDENTITY
    return map_of(_message(fn), REGISTRY.get(fn.type_name))


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from one top of a net to another, over something that both are computed from.

    Raises:
        RuntimeError: layers that keep coordinates do not connect them.
        AxisMismatchException: the layers between them count from different axes.
    """
    try:
        return map_from_to(top_from, top_to, _bottoms)
    except AxisMismatchException:
        raise
    except UnalignedError:
        raise RuntimeError(
            "Could not compute map between tops; are they connected by spatial layers?"
        ) from None


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts from `top_from` what lies on `top_to`.

    Raises:
        AssertionError: no crop aligns them: their scales differ, or the offset is negative or no
            whole number.
        RuntimeError, AxisMismatchException: as `coord_map_from_to`.
    """
    coordinates = coord_map_from_to(top_from, top_to)
    try:
        axis, offset = aligning_crop(coordinates)
    except UnalignedError as error:
        raise AssertionError(str(error)) from None
    return layers.Crop(top_from, top_to, crop_param={"axis": axis, "offset": offset})


def _message(fn: Function) -> caffe_pb2.LayerParameter:
    return fn.layer("", (), ())


def _bottoms(top: Top) -> tuple[Map, Sequence[Top]]:
    return coord_map(top.fn), bottoms_of_map(top.fn.inputs, REGISTRY.get(top.fn.type_name))
