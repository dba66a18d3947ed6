"""Layers of Caffe's forks that stand for several nodes, where such layers are allowed.

Each function looks whether a node is the last of such a group. The layers of the nodes before it
then have no reader, and are left out.
"""

from __future__ import annotations

import numpy as np

from moka.importer.builder import MadeBlob, NodeSite

EPS = 1e-30  # the least that keeps Normalize from dividing 0 by 0
SMALL = 1e-6  # a bound of norms that does not show among numbers of usual size


def as_shuffle_channel(site: NodeSite) -> MadeBlob | None:
    """ShuffleNet's layer for a Reshape that ends the mixing of channels: a Reshape to groups,
    their Transpose, and this Reshape back."""
    turn = _before(site, 0, "Transpose")
    cut = turn and _before(turn, 0, "Reshape")
    if not site.builder.extra_layers or turn is None or cut is None:
        return None
    order = list(turn.attribute("perm", ()))
    if order != [0, 2, 1, *range(3, len(order))] or not cut.is_variable(0):
        return None
    x, groups = cut.blob(0), cut.result_shape()
    if len(x.shape) < 2 or site.result_shape() != x.shape:
        return None
    if (groups[0], groups[1] * groups[2], *groups[3:]) != x.shape:
        return None
    return site.add("ShuffleChannel", x, shuffle_channel_param={"group": groups[1]})


def as_normalize(site: NodeSite) -> MadeBlob | None:
    """SSD's Normalize for a Div by the norm over the channels; that may be bounded below by a
    small number, or have it added."""
    if not site.builder.extra_layers or not site.is_variable(0):
        return None
    x, norm, least = site.node.inputs[0], site.node.inputs[1], 0.0
    while (node := site.builder.model.makers.get(norm)) is not None:
        here = NodeSite(site.builder, node)
        if node.op in ("Clip", "Max", "Add") and not here.is_variable(1):
            least = float(np.max(here.setting("min", 1, 0.0)))
        elif node.op == "ReduceL2" and node.inputs[0] == x:
            return _normalize(site, here, least)
        elif node.op == "Sqrt":
            return _normalize(site, _squares_of(here, x), least)
        elif node.op != "Expand":
            return None
        norm = node.inputs[0]
    return None


def _squares_of(root: NodeSite, x: str) -> NodeSite | None:
    """The sum of the squares of x, if that is what a Sqrt takes."""
    total = _before(root, 0, "ReduceSum")
    square = total and (_before(total, 0, "Pow") or _before(total, 0, "Mul"))
    if square is None or square.node.inputs[0] != x:
        return None
    by_itself = square.node.op == "Mul" and square.node.inputs[1] == x
    if not by_itself and (square.is_variable(1) or np.any(square.weights(1) != 2)):
        return None
    return total


def _normalize(site: NodeSite, reduction: NodeSite | None, least: float) -> MadeBlob | None:
    x = site.blob(0)
    axes = reduction.setting("axes", 1) if reduction is not None else None
    if axes is None or [axis % len(x.shape) for axis in axes] != [1] or least > SMALL:
        return None
    return site.add(
        "Normalize", x, blobs=[np.ones((), np.float32)], learned=False,
        norm_param={"across_spatial": False, "eps": max(least**2, EPS), "fix_scale": True},
    )  # fmt: skip


def as_axpy(site: NodeSite) -> MadeBlob | None:
    """SENet's Axpy for an Add of a blob and the product of another with a number for each
    channel."""
    if not site.builder.extra_layers or not (site.is_variable(0) and site.is_variable(1)):
        return None
    for index in (0, 1):
        product = _before(site, index, "Mul")
        if product is None or not (product.is_variable(0) and product.is_variable(1)):
            continue
        y = site.blob(1 - index)
        for k in (0, 1):
            x, factors = product.blob(k), product.blob(1 - k)
            ones = (1,) * (len(x.shape) - 2)
            if x.shape == y.shape and ones and factors.shape == (*x.shape[:2], *ones) != x.shape:
                return site.add("Axpy", factors, x, y)
    return None


def _before(site: NodeSite, index: int, op: str) -> NodeSite | None:
    """The node that makes an input, if it has this operator."""
    if not site.has_input(index):
        return None
    maker = site.maker(index)
    return NodeSite(site.builder, maker) if maker is not None and maker.op == op else None
