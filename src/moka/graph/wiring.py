"""Connect layers by their blobs: layer messages become nodes, and the structure is checked.

Nothing here needs a tensor. A registry entry is plain data (see `moka.layers.registry`), so a
graph can be built and printed without PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from moka.errors import NetError, nearest
from moka.schema import caffe_pb2
from moka.schema.fork_types import FORK_OF, instead_of

StateBlobs = int | Callable[[caffe_pb2.LayerParameter], tuple[int, ...]]
Arity = int | tuple[int, int | None]  # exactly n, or (least, most); None: no upper limit


class EntryLike(Protocol):
    """The facts of a layer type that a graph needs; `moka.layers.registry.Entry` explains them."""

    @property
    def bottoms(self) -> Arity: ...
    @property
    def tops(self) -> Arity: ...
    @property
    def one_top_each(self) -> bool: ...
    @property
    def is_loss(self) -> bool: ...
    @property
    def fixed_bottoms(self) -> tuple[int, ...]: ...
    @property
    def state_blobs(self) -> StateBlobs: ...
    @property
    def source(self) -> str | None: ...
    @property
    def is_plumbing(self) -> bool: ...
    @property
    def fork(self) -> str | None: ...
    @property
    def aliases(self) -> tuple[str, ...]: ...
    @property
    def messages(self) -> tuple[str, ...]: ...
    @property
    def coordinates(self) -> str | None: ...


@dataclass(frozen=True)
class Node:
    """One layer of a graph.

    Attributes:
        layer: its message, with the phase it runs in; never changed.
        entry: the facts of its type.
        bottoms, tops: blob names.
        loss_weights: one for each top, 0 if the top is not a loss.
        fixed_bottoms: indices of bottoms that never take a gradient (labels).
    """

    layer: caffe_pb2.LayerParameter
    entry: EntryLike
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    loss_weights: tuple[float, ...]
    fixed_bottoms: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.layer.name

    @property
    def type(self) -> str:
        return self.layer.type

    def in_place(self, top_index: int) -> bool:
        """Whether top number `top_index` is the bottom of the same number."""
        return self.bottoms[top_index : top_index + 1] == self.tops[top_index : top_index + 1]


def wire(
    net: caffe_pb2.NetParameter, registry: Mapping[str, EntryLike]
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """The nodes in running order, and the names of the blobs that no layer reads, sorted.

    Raises:
        NetError: an unknown layer type, a wrong number of bottoms or tops, a top made twice,
            `propagate_down` or `loss_weight` for some blobs only, a learning rate for statistics.
    """
    nodes: list[Node] = []
    made: set[str] = set()
    unused: set[str] = set()
    for layer in net.layer:
        try:
            node = _node(layer, net.state.phase, registry, made)
            _check_tops(node, made)
        except NetError as error:
            raise error.at(layer=layer.name, layer_type=layer.type) from None
        unused -= set(node.bottoms)
        unused |= set(layer.top)
        made |= set(node.tops)
        nodes.append(node)
    return tuple(nodes), tuple(sorted(unused))


def _node(
    layer: caffe_pb2.LayerParameter,
    phase: caffe_pb2.Phase,
    registry: Mapping[str, EntryLike],
    made: set[str],
) -> Node:
    entry = registry.get(layer.type)
    if entry is None:
        known = ", ".join(_types_of_bvlc(registry))
        raise NetError(
            f"Unknown layer type: {layer.type} (known types: {known}).",
            advice=_about_unknown(layer.type, registry),
        )
    tops = _with_automatic_top(layer, entry, made)
    _check_arity(layer, tops, entry)
    if isinstance(entry.state_blobs, int):
        _check_state(layer, entry.state_blobs)
    placed = caffe_pb2.LayerParameter()
    placed.CopyFrom(layer)
    if not placed.HasField("phase"):
        placed.phase = phase
    _fix_state(placed, state_indices(entry.state_blobs, layer))
    return Node(
        layer=placed,
        entry=entry,
        bottoms=tuple(layer.bottom),
        tops=tops,
        loss_weights=_loss_weights(layer, tops, entry.is_loss),
        fixed_bottoms=tuple(j if j >= 0 else len(layer.bottom) + j for j in entry.fixed_bottoms),
    )


def _types_of_bvlc(registry: Mapping[str, EntryLike]) -> list[str]:
    """The types that BVLC Caffe lists in this message, in alphabetical order."""
    return sorted(
        name for name, entry in registry.items() if entry.fork is None and name not in entry.aliases
    )


def _about_unknown(layer_type: str, registry: Mapping[str, EntryLike]) -> str:
    """Advice on an unknown type: the fork of Caffe that defines it, the nearest known name, or
    what to do without it."""
    if layer_type in FORK_OF:
        return _origin(layer_type)
    meant = nearest(layer_type, (*registry, *FORK_OF))
    if meant is None:
        return instead_of(layer_type)
    question = f'Did you mean "{meant}"?'
    return question if meant in registry else f"{question} {_origin(meant)}"


def _origin(layer_type: str) -> str:
    fork = FORK_OF[layer_type]
    return f"It is a type of {fork}, which Moka does not have. {instead_of(layer_type)}"


def _with_automatic_top(
    layer: caffe_pb2.LayerParameter, entry: EntryLike, made: set[str]
) -> tuple[str, ...]:
    """The tops; a loss layer without a top gets one that does not show in the message."""
    if layer.top or not entry.is_loss:
        return tuple(layer.top)
    name = "(automatic)"
    return (name if name not in made else f"{name} {layer.name}",)


def _check_arity(layer: caffe_pb2.LayerParameter, tops: tuple[str, ...], entry: EntryLike) -> None:
    for kind, count, arity in (
        ("bottom", len(layer.bottom), entry.bottoms),
        ("top", len(tops), entry.tops),
    ):
        least, most = (arity, arity) if isinstance(arity, int) else arity
        if count < least or (most is not None and count > most):
            raise NetError(f"takes {_wanted(least, most, kind)}, got {count}.")
    if entry.one_top_each and len(layer.bottom) != len(tops):
        raise NetError(
            f"makes one top for each bottom, got {len(layer.bottom)} bottoms and {len(tops)} tops."
        )
    if layer.propagate_down and len(layer.propagate_down) != len(layer.bottom):
        raise NetError(
            f"propagate_down must be given for no bottom or for each of the {len(layer.bottom)},"
            f" got {len(layer.propagate_down)}."
        )


def state_indices(state_blobs: StateBlobs, layer: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    """The indices of a layer's parameters that are state."""
    return tuple(range(state_blobs)) if isinstance(state_blobs, int) else state_blobs(layer)


def _fix_state(layer: caffe_pb2.LayerParameter, state: Sequence[int]) -> None:
    """Give parameters that are state a learning rate of 0, whatever the net says."""
    last = max(state, default=-1)
    while len(layer.param) <= last:
        layer.param.add()
    for k in state:
        layer.param[k].lr_mult = 0.0


def _check_state(layer: caffe_pb2.LayerParameter, state_blobs: int) -> None:
    for k, spec in enumerate(layer.param[:state_blobs]):
        if spec.lr_mult != 0:
            raise NetError(
                f"Cannot configure statistics as layer parameters: no solver trains its first"
                f" {state_blobs} blobs, but param {k} has lr_mult {spec.lr_mult:g}.",
                advice="Give it lr_mult: 0, or leave out the param entries.",
            )


def _wanted(least: int, most: int | None, kind: str) -> str:
    if most is None:
        return f"at least {least} {kind}{'s' * (least != 1)}"
    if least == most:
        return f"{least or 'no'} {kind}{'s' * (least != 1)}"
    return f"{least} to {most} {kind}s"


def _loss_weights(
    layer: caffe_pb2.LayerParameter, tops: tuple[str, ...], is_loss: bool
) -> tuple[float, ...]:
    if layer.loss_weight:
        if len(layer.loss_weight) != len(tops):
            raise NetError(
                f"loss_weight must be given for no top or for each of the {len(tops)},"
                f" got {len(layer.loss_weight)}."
            )
        return tuple(layer.loss_weight)
    return tuple(1.0 if is_loss and i == 0 else 0.0 for i in range(len(tops)))


def _check_tops(node: Node, made: set[str]) -> None:
    for i, top in enumerate(node.tops):
        if (top in made and not node.in_place(i)) or top in node.tops[:i]:
            raise NetError(
                f"Top blob '{top}' produced by multiple sources.",
                advice="Rename this top, or make the layer in-place by naming its bottom as top.",
            )
