"""Crops that find their offset by themselves.

The Crop layer of 2015 (jonlong's branch, which FCN, HED and CRF-RNN were trained with) cuts out
what lies on its second bottom. BVLC's of 2016 begins at `offset`, which is 0 where it is not given.
The first is AutoCrop, its name in RCF; V1 nets, whose forks alone had a crop, become AutoCrop too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from moka.errors import NetError
from moka.graph.coordinates import (
    IDENTITY,
    Map,
    UnalignedError,
    UndefinedMapException,
    aligning_crop,
    bottoms_of_map,
    map_from_to,
    map_of,
)
from moka.graph.wiring import EntryLike
from moka.schema import caffe_pb2

Version = tuple[str, int]  # a blob, the number of the layer that has made or changed it


def with_aligned_crops(
    net: caffe_pb2.NetParameter, registry: Mapping[str, EntryLike]
) -> caffe_pb2.NetParameter:
    """The net with the offset of each AutoCrop written out that has none.

    Raises:
        NetError: no offset aligns a crop.
    """
    if not any(_is_open(layer, "aligned crop", registry) for layer in net.layer):
        return net
    aligned = caffe_pb2.NetParameter()
    aligned.CopyFrom(net)
    for layer, seen in _open_crops(aligned, "aligned crop", registry):
        try:
            axis, offset = seen.offset(layer)
        except UnalignedError as error:
            raise NetError(
                f'no offset aligns "{layer.bottom[0]}" with "{layer.bottom[1]}": {error}.',
                layer=layer.name,
                layer_type=layer.type,
                advice="Give crop_param { offset: ... }.",
            ) from None
        layer.crop_param.axis = axis
        layer.crop_param.offset.extend(offset)
    return aligned


def unaligned_crops(
    net: caffe_pb2.NetParameter, registry: Mapping[str, EntryLike]
) -> list[tuple[str, list[int]]]:
    """The Crop layers that say nothing of an offset and would begin elsewhere if they were
    AutoCrops: their names, and the offsets that they would have."""
    found: list[tuple[str, list[int]]] = []
    if not any(_is_open(layer, "crop", registry) for layer in net.layer):
        return found
    for layer, seen in _open_crops(net, "crop", registry):
        if not layer.HasField("crop_param"):
            with suppress(UnalignedError):
                offset = seen.offset(layer)[1]
                if any(offset):
                    found.append((layer.name, offset))
    return found


def _is_open(layer: caffe_pb2.LayerParameter, kind: str, registry: Mapping[str, EntryLike]) -> bool:
    """Whether it is a crop of this kind that says nothing of an offset."""
    entry = registry.get(layer.type)
    is_crop = entry is not None and entry.coordinates == kind and len(layer.bottom) == 2
    return is_crop and not layer.crop_param.offset


def _open_crops(
    net: caffe_pb2.NetParameter, kind: str, registry: Mapping[str, EntryLike]
) -> Iterator[tuple[caffe_pb2.LayerParameter, _Coordinates]]:
    """The crops of a kind without an offset, each with the maps of the layers before it."""
    seen = _Coordinates(registry)
    for layer in net.layer:
        if _is_open(layer, kind, registry):
            yield layer, seen
        seen.add(layer)


class _Coordinates:
    """The maps of the layers of a net, as far as it has been read."""

    def __init__(self, registry: Mapping[str, EntryLike]) -> None:
        self._registry = registry
        self._layers: list[tuple[caffe_pb2.LayerParameter, tuple[Version, ...]]] = []
        self._now: dict[str, Version] = {}

    def add(self, layer: caffe_pb2.LayerParameter) -> None:
        """Read on by one layer."""
        below = tuple(self._version(name) for name in layer.bottom)
        for top in layer.top:
            self._now[top] = (top, len(self._layers))
        self._layers.append((layer, below))

    def offset(self, crop: caffe_pb2.LayerParameter) -> tuple[int, list[int]]:
        """The first axis and the offsets with which the next layer, a crop, aligns its bottoms.

        Raises:
            UnalignedError: none does.
        """
        first, second = (self._version(name) for name in crop.bottom)
        axis, offset = aligning_crop(map_from_to(first, second, self._bottoms))
        param = crop.crop_param
        if param.HasField("axis") and param.axis != axis:
            raise UnalignedError(
                f"it crops from axis {param.axis} on, windows slide from {axis} on"
            )
        return axis, offset

    def _version(self, name: str) -> Version:
        return self._now.get(name, (name, -1))

    def _bottoms(self, blob: Version) -> tuple[Map, Iterable[Version]]:
        number = blob[1]
        if number < 0:
            raise UndefinedMapException(f"{blob[0]} comes from outside.")
        layer, below = self._layers[number]
        entry = self._registry.get(layer.type)
        is_first = entry is not None and entry.coordinates == "first"
        return IDENTITY if is_first else map_of(layer, entry), bottoms_of_map(below, entry)
