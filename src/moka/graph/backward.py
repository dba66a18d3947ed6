"""Which layers, bottoms and parameters take part in the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moka.graph.wiring import Node


@dataclass(frozen=True)
class BackwardMarks:
    """For one layer: whether it runs backward, and for which bottoms and parameters."""

    layer: bool
    bottoms: tuple[bool, ...]
    params: tuple[bool, ...]


def mark_backward(
    nodes: Sequence[Node], lr_mults: Sequence[Sequence[float]], force_backward: bool
) -> tuple[BackwardMarks, ...]:
    """Caffe's rule: a layer runs backward if it leads to a loss and has something to compute.

    Something to compute is a parameter whose learning rate is not 0, or a bottom that needs
    gradients; `propagate_down` overrides the latter. `force_backward` marks everything but the
    bottoms that never take a gradient.

    Args:
        nodes: the layers in running order.
        lr_mults: per layer, the lr_mult of each of its parameters.
    """
    need, bottoms = _downward(nodes, lr_mults)
    _upward(nodes, need, bottoms)
    if force_backward:
        for i, node in enumerate(nodes):
            need[i] = True
            for j in range(len(node.bottoms)):
                bottoms[i][j] = bottoms[i][j] or j not in node.fixed_bottoms
    return tuple(
        BackwardMarks(
            need[i],
            tuple(bottoms[i]),
            tuple(force_backward or mult != 0 for mult in lr_mults[i]),
        )
        for i in range(len(nodes))
    )


def _downward(
    nodes: Sequence[Node], lr_mults: Sequence[Sequence[float]]
) -> tuple[list[bool], list[list[bool]]]:
    """Go from the data down: find layers and bottoms that have something to compute."""
    need: list[bool] = []
    bottoms: list[list[bool]] = []
    blob_needs: dict[str, bool] = {}
    for node, mults in zip(nodes, lr_mults, strict=True):
        here = [blob_needs[b] for b in node.bottoms]
        needed = any(here) or any(mult != 0 for mult in mults)
        bottoms.append(list(node.layer.propagate_down) or here)
        need.append(needed)
        blob_needs.update((top, needed or blob_needs.get(top, False)) for top in node.tops)
    return need, bottoms


def _upward(nodes: Sequence[Node], need: list[bool], bottoms: list[list[bool]]) -> None:
    """Go from the losses up: unmark what leads to no loss or is cut off by propagate_down."""
    under_loss: set[str] = set()
    skipped: set[str] = set()
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        leads_to_loss = any(node.loss_weights) or any(top in under_loss for top in node.tops)
        if need[i] and all(top in skipped for top in node.tops):
            need[i] = False
            bottoms[i] = [False] * len(bottoms[i])
        if not leads_to_loss:
            need[i] = False
        for j, blob in enumerate(node.bottoms):
            if leads_to_loss:
                under_loss.add(blob)
            else:
                bottoms[i][j] = False
            if not bottoms[i][j]:
                skipped.add(blob)
