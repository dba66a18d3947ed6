"""Notice that somebody has changed a net's parameters, however they did it.

PyTorch counts its own changes of a tensor. It does not see what is written through NumPy arrays and
through `parameter.data`; so parameters of which somebody may hold such a view are compared by what
they hold.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from moka.layers.parameters import Parameters
from moka.memory import Memory, ParameterMemory
from moka.net import Net

ROW = 1024  # numbers
NEVER = (-1, -1)
# How many refer to a memory, by its address; builds of torch 2.6 without CUDA cannot say.
USERS_OF_MEMORY: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)


class References(NamedTuple):
    """How many refer to a parameter, and to its memory."""

    to_parameter: int
    to_memory: int

    def moved(self, before: References, after: References) -> References:
        return References(
            self.to_parameter + after.to_parameter - before.to_parameter,
            self.to_memory + after.to_memory - before.to_memory,
        )


NOBODY_KNOWS = References(-1, -1)


class Print(NamedTuple):
    """Sums of bits that tell whether an array has changed: exact integers, over rows and over
    columns, and the numbers that fill no row."""

    rows: Tensor
    columns: Tensor
    rest: Tensor

    def equals(self, other: Print) -> bool:
        return all(map(torch.equal, self, other))


def print_of(values: Tensor) -> Print:
    """The print of a float32 array. It costs two readings of the memory."""
    flat = values.detach().contiguous().view(-1).view(torch.int32)
    whole = flat.numel() // ROW * ROW
    rows = flat[:whole].clone() if flat.data_ptr() % 8 else flat[:whole]
    table = rows.view(torch.int64).view(-1, ROW // 2)
    return Print(table.sum(1), table.sum(0), flat[whole:].clone())


class _Version(NamedTuple):
    """What is known of a parameter without looking at its numbers.

    Attributes:
        identity, address, version: PyTorch's.
        reads: how often somebody has asked for its array, or set it (`Memory.reads`).
        exposures: how often somebody has got hold of it in PyTorch (`Layer.exposures`).
    """

    identity: int
    address: int
    version: int
    reads: int
    exposures: int


class Watch:
    """Tells whether a net's parameters are what they were at the last `look`.

    A parameter that somebody has got hold of is compared by its print in each pass, until nobody
    refers to it any more.

    Args:
        net: if somebody has got hold of parameters already, these count as held for ever.
    """

    def __init__(self, net: Net) -> None:
        self._net = net
        self._slots = [
            (place.index, k, place.layer)
            for place in net.places
            for k in range(len(place.layer.parameter_names))
        ]
        self._layers = [place.layer for place in net.places if place.layer.parameter_names]
        self._known: list[_Version] = []
        self._glance: object = None  # at all parameters, the last time that nothing had changed
        # Counts of all nets' parameters: at the last pass, and since when nobody can have changed
        # these parameters.
        self._last = self._calm = NEVER
        self._still = 0  # passes since the counts moved
        self._prints: list[Print] = []
        self._references = [
            NOBODY_KNOWS if slot[2].exposures else count
            for slot, count in zip(self._slots, self._count_references(), strict=True)
        ]
        self._identities = [id(weight) for weight in self._weights()]

    def look(self) -> None:
        """Remember the parameters as they are now."""
        self._prints = [print_of(weight) for weight in self._weights()]
        self._accept()

    def has_changed(self) -> bool:
        """Whether a parameter holds something else than at the last `look`.

        While nobody has got hold of a parameter of any net, and nobody holds one of these, two
        counts say so. That matters: a pass leaves nothing in the processor's cache, so a look at
        each of MobileNet v2's 264 parameters takes 0.25 ms, a tenth of a pass.
        """
        counts = _counts_of_all()
        if counts == self._calm:
            return False
        if self._glance is not None and self._glance == self._glance_now():
            self._still = self._still + 1 if counts == self._last else 0
            self._last = counts
            if self._still.bit_count() == 1:  # after 1, 2, 4, 8, ... passes
                self._calm = NEVER if any(self._held()) else counts
            return False
        if self._differs():
            return True
        self._accept()
        return False

    def is_calm(self) -> bool:
        """Whether nobody can have changed one of them since `has_changed` was last asked."""
        return _counts_of_all() == self._calm

    def _differs(self) -> bool:
        weights = self._weights()
        now = self._versions()
        for new, old, weight, known in zip(now, self._known, weights, self._prints, strict=True):
            if new.identity != old.identity:
                return True
            if (new != old or new.exposures) and not known.equals(print_of(weight)):
                return True
        return False

    @contextmanager
    def our_own_references(self) -> Iterator[None]:
        """While programs that refer to parameters come and go; they change none of them."""
        before = self._count_references()
        yield
        after = self._count_references()
        self._references = [
            now if now is NOBODY_KNOWS else now.moved(a, b)
            for now, a, b in zip(self._references, before, after, strict=True)
        ]

    def _accept(self) -> None:
        """Take the parameters for what they were. If somebody holds one of them, a glance does not
        do the next time."""
        self._end_exposures()
        self._known = [
            version._replace(reads=-1) if memory is not None and memory.handed_out else version
            for version, memory in zip(self._versions(), self._memories(), strict=True)
        ]
        is_held = any(version.exposures or version.reads < 0 for version in self._known)
        self._glance = None if is_held else self._glance_now()
        self._calm, self._still = NEVER, 0

    def _end_exposures(self) -> None:
        """What nobody holds any more is no longer exposed."""
        pairs = zip(self._slots, self._held(), strict=True)
        holds = {id(layer) for (_, _, layer), is_held in pairs if is_held}
        for layer in self._layers:
            if id(layer) not in holds:
                layer.exposures = 0

    def _held(self) -> list[bool]:
        """Of each parameter whether somebody else refers to it, or may do so."""
        if USERS_OF_MEMORY is None:
            return [True] * len(self._slots)
        identities = [id(weight) for weight in self._weights()]
        counts = zip(self._count_references(), self._references, strict=True)
        pairs = zip(counts, zip(identities, self._identities, strict=True), strict=True)
        return [now != then or a != b for (now, then), (a, b) in pairs]

    def _count_references(self) -> list[References]:
        """Always in the same way, since our own references count too."""
        return [_references(weight) for weight in self._weights()]

    def _glance_now(self) -> object:
        """What is known of all parameters without looking at their numbers."""
        blobs = self._net.made_layer_blobs.values()
        weights = [w for layer in self._layers for w in layer.weights_unseen()]
        return (
            list(map(id, weights)),
            [w._version for w in weights],
            [blob.data_memory.reads for layer_blobs in blobs for blob in layer_blobs],
            [layer.exposures for layer in self._layers],
        )

    def _weights(self) -> list[nn.Parameter]:
        return [w for layer in self._layers for w in layer.weights_unseen()]

    def _memories(self) -> list[Memory | None]:
        """The memory of each parameter, if somebody has asked for its blob."""
        blobs = self._net.made_layer_blobs
        return [blobs[i][k].data_memory if i in blobs else None for i, k, _ in self._slots]

    def _versions(self) -> list[_Version]:
        return [
            _Version(
                id(weight),
                weight.data_ptr(),
                weight._version,
                memory.reads if memory is not None else 0,
                slot[2].exposures,
            )
            for weight, memory, slot in zip(
                self._weights(), self._memories(), self._slots, strict=True
            )
        ]


def _counts_of_all() -> tuple[int, int]:
    return Parameters.exposures_of_all, ParameterMemory.changes_of_all


def _references(parameter: nn.Parameter) -> References:
    count = USERS_OF_MEMORY
    return References(
        # Python's count and PyTorch's: in torch 2.6 a graph that leads to it is in the second.
        sys.getrefcount(parameter) + parameter._use_count(),  # type: ignore[attr-defined]
        count(parameter.untyped_storage()._cdata) if count is not None else 0,
    )
