"""How much memory a net's blobs and parameters take: Caffe's count, and the real one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch

from moka.errors import NetError
from moka.free_memory import UNKNOWN, gigabytes, most_memory
from moka.graph import Node
from moka.types import Shape

FLOAT_BYTES = 4


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a net's float32 numbers.

    Attributes:
        counted: every top of every layer, in-place and shared ones again: Caffe's "Memory
            required for data".
        data: every array once, as training keeps them.
        peak: the most that is alive at once when each array is freed after its last reader, as in
            testing.
        parameters: learned and other blobs of layers, shared ones once.
    """

    counted: int
    data: int
    peak: int
    parameters: int


def data_bytes(tops: Iterable[Shape]) -> int:
    """Bytes of float32 arrays of these shapes."""
    return FLOAT_BYTES * sum(prod(shape) for shape in tops)


def memory_of(device: torch.device) -> float:
    """How many bytes a net may take on a device; infinite where that is not known, and on PyTorch's
    meta device."""
    if device.type == "cpu":
        return most_memory()
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return UNKNOWN


def check_tops(tops: Iterable[Shape], most: float) -> None:
    """Raises NetError for tops that no pass can make.

    Args:
        most: see `memory_of`.
    """
    wanted = data_bytes(tops)
    if wanted > most:
        raise NetError(
            f"its tops take {gigabytes(wanted)}, and there are {gigabytes(most)} in all."
        )


def check_all(memory: MemoryUse, most: float) -> None:
    """Raises NetError for a net whose parameters, with the blobs that are alive at once, take more
    than `most`; see `memory_of`."""
    wanted = memory.peak + memory.parameters
    if wanted > most:
        raise NetError(
            f"has the largest tops of a net that takes at least {gigabytes(wanted)}"
            f" ({gigabytes(memory.parameters)} of them for parameters), and there are"
            f" {gigabytes(most)} in all.",
            advice="Make the batch smaller.",
        )


def memory_use(
    nodes: Sequence[Node],
    shapes: Mapping[str, Shape],
    views: Sequence[bool],
    *,
    counted: int,
    parameters: Iterable[Shape],
) -> MemoryUse:
    """How much a net takes.

    Args:
        nodes: the layers in order.
        shapes: of every blob.
        views: for each layer, whether its tops lie in its first bottom's memory.
        counted: bytes of all tops, in-place and shared ones again.
        parameters: shapes of all parameters, each once.
    """
    arrays = _arrays(nodes, shapes, views)
    peak = max(
        (sum(a.size for a in arrays if a.made <= i <= a.last_read) for i in range(len(nodes))),
        default=0,
    )
    return MemoryUse(counted, sum(a.size for a in arrays), peak, data_bytes(parameters))


@dataclass
class _Array:
    """One array that lives for a while.

    Attributes:
        size: in bytes.
        made, last_read: by which layers.
    """

    size: int
    made: int
    last_read: int


def _arrays(
    nodes: Sequence[Node], shapes: Mapping[str, Shape], views: Sequence[bool]
) -> list[_Array]:
    """Every array of a net once; in-place tops and views have none of their own."""
    found: list[_Array] = []
    array_of: dict[str, _Array] = {}
    for i, node in enumerate(nodes):
        for bottom in node.bottoms:
            array_of[bottom].last_read = i
        for j, top in enumerate(node.tops):
            if node.in_place(j):
                continue
            if views[i]:
                array_of[top] = array_of[node.bottoms[0]]
                continue
            array_of[top] = _Array(data_bytes([shapes[top]]), made=i, last_read=i)
            found.append(array_of[top])
    read = {bottom for node in nodes for bottom in node.bottoms}
    for name in array_of.keys() - read:
        array_of[name].last_read = len(nodes)  # an output stays
    return found
