"""Where the pixels of one blob lie in another.

A map (axis, a, b) sends index i along an axis of a layer's bottom to index a i + b along the same
axis of its top. It holds for all axes after `axis` (1 in N x C x H x W; None: the axis of the maps
that it is combined with); a and b are one number for all these axes, or an array with one for each.

Long, Shelhamer and Darrell, Fully convolutional networks for semantic segmentation, 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from moka.graph.wiring import EntryLike
from moka.schema import caffe_pb2

Numbers = float | NDArray[Any]
Map = tuple[int | None, Numbers, Numbers]
Blob = TypeVar("Blob")

IDENTITY: Map = (None, 1, 0)
CROPS = ("crop", "aligned crop")  # whose second bottom lends its size alone
OF_THE_FIRST = (*CROPS, "first")


class UndefinedMapException(Exception):  # noqa: N818, pycaffe's name
    """A layer that does not keep coordinates, like InnerProduct."""


class UnalignedError(Exception):
    """Two blobs that no map, or no crop, brings together."""


class AxisMismatchException(UnalignedError):  # noqa: N818
    """Two maps that count from different axes."""


class Window(NamedTuple):
    """The sliding window of a layer.

    Attributes:
        axis: the axis of channels; the window slides along all axes after it.
        stride, extent, pad: arrays of one number, or of one for each axis. The extent of a kernel
            with dilation reaches from its first to its last element.
    """

    axis: int
    stride: NDArray[np.int64]
    extent: NDArray[np.int64]
    pad: NDArray[np.int64]


def window_of(layer: caffe_pb2.LayerParameter, entry: EntryLike) -> Window:
    """The window of a convolution or pooling.

    Raises:
        UndefinedMapException: it has no kernel_size, as a global pooling, or options that cannot
            be.
    """
    message: Any = getattr(layer, entry.messages[0])
    known = message.DESCRIPTOR.fields_by_name

    def field(name: str, default: int | None) -> NDArray[np.int64]:
        by_axis = [f"{name.removesuffix('_size')}_{axis}" for axis in "hw"]
        if any(each in known and message.HasField(each) for each in by_axis):
            return np.array([getattr(message, each) for each in by_axis])
        values = np.array(getattr(message, name), np.int64, ndmin=1)
        if values.size and values.all():
            return values
        if default is None:
            raise UndefinedMapException(f"{layer.type} has no {name}.")
        return values if values.size else np.array([default])

    dilation = np.array(list(getattr(message, "dilation", ())) or [1])
    kernel, stride, pad = field("kernel_size", None), field("stride", 1), field("pad", 0)
    if any(getattr(message, side, 0) for side in ("pad_t", "pad_b", "pad_l", "pad_r")):
        pad = np.array([message.pad_t, message.pad_l])  # what lies before the image counts
    lengths = {len(each) for each in (kernel, dilation, stride, pad)} - {1}
    if len(lengths) > 1 or not stride.all():
        raise UndefinedMapException(f"{layer.type} has a window that cannot be.")
    return Window(getattr(message, "axis", 1), stride, (kernel - 1) * dilation + 1, pad)


def crop_of(layer: caffe_pb2.LayerParameter) -> tuple[int, NDArray[np.int64]]:
    """The first axis that a Crop layer crops, and its offsets: one, or one for each axis.

    Raises:
        UndefinedMapException: sizes decide where it begins.
    """
    if layer.crop_param.center_align:
        raise UndefinedMapException(f"{layer.type} with center_align begins where sizes say.")
    return layer.crop_param.axis, np.array(list(layer.crop_param.offset) or [0])


def map_of(layer: caffe_pb2.LayerParameter, entry: EntryLike | None) -> Map:
    """The map from a layer's bottoms to its tops.

    Raises:
        UndefinedMapException: there is none for its type.
    """
    how = entry.coordinates if entry else None
    if entry and how in ("window", "transposed window"):
        axis, stride, extent, pad = window_of(layer, entry)
        if how == "window":
            return axis, 1 / stride, (pad - (extent - 1) / 2) / stride
        return axis, stride, (extent - 1) / 2 - pad
    if how in CROPS:
        axis, offset = crop_of(layer)
        return axis - 1, 1, -offset
    if how == "same":
        return IDENTITY
    raise UndefinedMapException(f"{layer.type} does not keep coordinates.")


def bottoms_of_map(bottoms: Sequence[Blob], entry: EntryLike | None) -> Sequence[Blob]:
    """The bottoms of a layer that its map holds for."""
    return bottoms[:1] if entry is not None and entry.coordinates in OF_THE_FIRST else bottoms


def compose(base_map: Map, next_map: Map) -> Map:
    """The map that applies `next_map` first, then `base_map`: a1 (a2 i + b2) + b1.

    Raises:
        AxisMismatchException: they count from different axes.
    """
    ax1, a1, b1 = base_map
    ax2, a2, b2 = next_map
    if None not in (ax1, ax2) and ax1 != ax2:
        raise AxisMismatchException(f"one map is for the axes after {ax1}, the other after {ax2}")
    return (ax2 if ax1 is None else ax1), a1 * a2, a1 * b2 + b1


def inverse(coord_map: Map) -> Map:
    """The map back: (i - b) / a."""
    ax, a, b = coord_map
    return ax, 1 / a, -b / a


def map_from_to(
    source: Blob, target: Blob, bottoms: Callable[[Blob], tuple[Map, Iterable[Blob]]]
) -> Map:
    """The map from one blob of a net to another, over something that both are computed from.

    Args:
        bottoms: of a blob: the map of the layer that makes it, and the bottoms that it holds for.
            May raise UndefinedMapException.

    Raises:
        UnalignedError: layers that keep coordinates do not connect them, or count from different
            axes.
    """
    from_maps, to_maps = _ancestors(source, bottoms), _ancestors(target, bottoms)
    for blob, to_map in to_maps.items():
        if blob in from_maps:
            return compose(to_map, inverse(from_maps[blob]))
    raise UnalignedError("no layers with windows connect them")


def _ancestors(
    blob: Blob, bottoms: Callable[[Blob], tuple[Map, Iterable[Blob]]]
) -> dict[Blob, Map]:
    """All blobs that this one is computed from, itself first, with the maps from them to it."""
    maps, waiting = {blob: IDENTITY}, [blob]
    while waiting:
        here = waiting.pop()
        try:
            layer_map, below = bottoms(here)
        except UndefinedMapException:
            continue
        for bottom in below:
            if bottom not in maps:
                maps[bottom] = compose(maps[here], layer_map)
                waiting.append(bottom)
    return maps


def aligning_crop(coord_map: Map) -> tuple[int, list[int]]:
    """The first axis and the offsets of the crop that aligns one blob with another.

    Args:
        coord_map: from the blob that is cropped to the other one.

    Raises:
        UnalignedError: no crop does: their scales differ, or the offset is negative or no whole
            number.
    """
    axis, a, b = coord_map
    scale, offset = np.atleast_1d(a), -np.atleast_1d(b)
    if (scale != 1).any():
        raise UnalignedError(f"scale mismatch on crop (a = {scale})")
    if (offset < 0).any():
        raise UnalignedError(f"cannot crop negative offset (b = {-offset})")
    if (np.round(offset) != offset).any():
        raise UnalignedError(f"cannot crop noninteger offset (b = {-offset})")
    return (2 if axis is None else axis + 1), offset.astype(int).tolist()
