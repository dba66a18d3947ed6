"""`caffe.coord_map`: maps between the coordinates of a net's tops, and crops that align them, as
fully convolutional nets need.

A map (axis, a, b) sends index i along an axis of the first top to index a i + b along the same axis
of the second. It holds for all axes after `axis` (1 in N x C x H x W; None: the axis of the maps
that it is combined with); a and b are one number for all these axes, or an array with one for each.

Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, 2015.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from moka.layers import REGISTRY, all_entries
from moka.net.spec import Function, Top, layers

Numbers = float | NDArray[Any]
Map = tuple[int | None, Numbers, Numbers]

# Layers whose output lies on their input.
PASS_THROUGH_LAYERS = [entry.type for entry in all_entries() if entry.coordinates == "same"]
IDENTITY: Map = (None, 1, 0)


class UndefinedMapException(Exception):  # noqa: N818, pycaffe's name
    """A layer that does not keep coordinates, like InnerProduct."""


class AxisMismatchException(Exception):  # noqa: N818
    """Two maps that count from different axes."""


def conv_params(fn: Function) -> tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Axis, stride, extent of the kernel (from its first to its last element) and pad of a layer
    with a sliding window, the last three as arrays of one number, or of one for each axis.

    Raises:
        UndefinedMapException: it has no kernel_size, as a global pooling.
    """
    message: Any = getattr(fn.layer("", (), ()), REGISTRY[fn.type_name].messages[0])

    def field(name: str, default: int | None) -> NDArray[np.int64]:
        stem = name.removesuffix("_size")
        if message.HasField(f"{stem}_h") or message.HasField(f"{stem}_w"):
            return np.array([getattr(message, f"{stem}_h"), getattr(message, f"{stem}_w")])
        values = np.array(getattr(message, name), np.int64, ndmin=1)
        if values.size and values.all():
            return values
        if default is None:
            raise UndefinedMapException(f"{fn.type_name} has no {name}.")
        return values if values.size else np.array([default])

    dilation = np.array(list(getattr(message, "dilation", ())) or [1])
    extent = (field("kernel_size", None) - 1) * dilation + 1
    return getattr(message, "axis", 1), field("stride", 1), extent, field("pad", 0)


def crop_params(fn: Function) -> tuple[int, NDArray[np.int64]]:
    """The first axis that a Crop layer crops, and its offsets: one, or one for each axis."""
    param = fn.layer("", (), ()).crop_param
    return param.axis, np.array(list(param.offset) or [0])


def coord_map(fn: Function) -> Map:
    """The map from a layer's bottoms to its tops.

    Raises:
        UndefinedMapException: there is none for its type.
    """
    how = _coordinates(fn)
    if how == "window":
        axis, stride, extent, pad = conv_params(fn)
        return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
    if how == "transposed window":
        axis, stride, extent, pad = conv_params(fn)
        return axis, stride, (extent - 1) / 2 - pad
    if how == "crop":
        axis, offset = crop_params(fn)
        return axis - 1, 1, -offset
    if how == "same" or fn.type_name in PASS_THROUGH_LAYERS:  # to which a program may have added
        return IDENTITY
    raise UndefinedMapException(f"{fn.type_name} does not keep coordinates.")


def _coordinates(fn: Function) -> str | None:
    entry = REGISTRY.get(fn.type_name)
    return entry.coordinates if entry else None


def compose(base_map: Map, next_map: Map) -> Map:
    """The map that applies `next_map` first, then `base_map`: a1 (a2 i + b2) + b1.

    Raises:
        AxisMismatchException: they count from different axes.
    """
    ax1, a1, b1 = base_map
    ax2, a2, b2 = next_map
    if None not in (ax1, ax2) and ax1 != ax2:
        raise AxisMismatchException(f"one map is for the axes after {ax1}, the other after {ax2}.")
    return (ax2 if ax1 is None else ax1), a1 * a2, a1 * b2 + b1


def inverse(coord_map: Map) -> Map:
    """The map back: (i - b) / a."""
    ax, a, b = coord_map
    return ax, 1 / a, -b / a


def coord_map_from_to(top_from: Top, top_to: Top) -> Map:
    """The map from one top of a net to another, over something that both are computed from.

    Raises:
        RuntimeError: layers that keep coordinates do not connect them.
        AxisMismatchException: the layers between them count from different axes.
    """
    from_maps, to_maps = _ancestors(top_from), _ancestors(top_to)
    for top, to_map in to_maps.items():
        if top in from_maps:
            return compose(to_map, inverse(from_maps[top]))
    raise RuntimeError("Could not compute map between tops; are they connected by spatial layers?")


def _ancestors(top: Top) -> dict[Top, Map]:
    """All tops that this one is computed from, itself first, with the maps from them to it."""
    maps, waiting = {top: IDENTITY}, [top]
    while waiting:
        here = waiting.pop()
        try:
            layer_map = coord_map(here.fn)
        except UndefinedMapException:
            continue
        # A Crop layer's second bottom lends its size alone.
        bottoms = here.fn.inputs[:1] if _coordinates(here.fn) == "crop" else here.fn.inputs
        for bottom in bottoms:
            if bottom not in maps:
                maps[bottom] = compose(maps[here], layer_map)
                waiting.append(bottom)
    return maps


def crop(top_from: Top, top_to: Top) -> Top:
    """A Crop layer that cuts from `top_from` what lies on `top_to`.

    Raises:
        AssertionError: no crop aligns them: their scales differ, or the offset is negative or no
            whole number.
        RuntimeError, AxisMismatchException: as `coord_map_from_to`.
    """
    axis, a, b = coord_map_from_to(top_from, top_to)
    scale, offset = np.atleast_1d(a), -np.atleast_1d(b)
    if (scale != 1).any():
        raise AssertionError(f"scale mismatch on crop (a = {scale})")
    if (offset < 0).any():
        raise AssertionError(f"cannot crop negative offset (b = {-offset})")
    if (np.round(offset) != offset).any():
        raise AssertionError(f"cannot crop noninteger offset (b = {-offset})")
    first = 2 if axis is None else axis + 1
    return layers.Crop(
        top_from, top_to, crop_param={"axis": first, "offset": offset.astype(int).tolist()}
    )
