"""Faster R-CNN's proposals as NonMaxSuppression, with the rows of the layer."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from torch import Tensor

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import (
    LOWEST,
    as_float,
    box_corners,
    columns,
    halves,
    pick,
    rows_at,
    suppress,
)
from moka.export.onnx.table import exports
from moka.layers.detection.anchors import Choice, grid_anchors
from moka.layers.detection.proposal import Proposal
from moka.layers.detection.py_faster_rcnn import ProposalLayer

Facts = list[str]  # height, width, scale down, scale across


@exports(Proposal, fixed_from=1)
def export_proposal(
    site: Site, layer: Proposal, scores: Value, deltas: Value, im_info: Value
) -> list[str]:
    moves = Value(_scaled(site, layer, deltas), deltas.dims)
    facts = _facts(site, im_info)
    found = _found(site, layer, layer.feat_stride, scores, moves, facts)
    best, (image, _) = found.boxes, found.place
    mine = _facts_of(site, facts, image, im_info)
    if layer.choice.clip_after:
        best = _clipped(site, best, mine)
    if layer.normalize:
        size = site.add("Concat", mine[1], mine[0], mine[1], mine[0], axis=-1)
        best = site.add("Div", best, size)
    rows = site.add("Concat", as_float(site, image), best, axis=1)
    if len(site.tops) == 1:
        return [rows]
    return [rows, pick(site, found.scores, found.place)]


@exports(ProposalLayer, fixed_from=1, rows_axis=0)
def export_proposal_layer(
    site: Site, layer: ProposalLayer, scores: Value, deltas: Value, im_info: Value
) -> list[str]:
    facts = _facts(site, im_info)
    found = _found(site, layer, layer.stride, scores, deltas, facts)
    rows = site.add("Concat", as_float(site, found.place[0]), found.boxes, axis=1)
    score = site.add("Unsqueeze", pick(site, found.scores, found.place), site.ints(1))
    return [rows, score][: len(site.tops)]


class _Found(NamedTuple):
    """Regions that stay.

    Attributes:
        boxes: corners (R, 4).
        place: the image of each, and its place among the image's candidates, (R, 1) each.
        scores: of all candidates.
    """

    boxes: str
    place: tuple[str, str]
    scores: str


def _found(
    site: Site,
    layer: Proposal | ProposalLayer,
    stride: float,
    scores: Value,
    deltas: Value,
    facts: Facts,
) -> _Found:
    """The regions that stay, by image and falling score."""
    images, _, height, width = scores.dims
    many, total, choice = len(layer.base), len(layer.base) * height * width, layer.choice
    objects = site.slice(scores.name, 1, many, 2 * many)
    score = _by_anchor(site, objects, (images, many, height, width), (images, total))
    moves = _by_anchor(site, deltas.name, deltas.dims, (images, total, 4))
    boxes = _moved(site, grid_anchors(layer.base.float(), height, width, stride), moves)
    if choice.clip_before:
        boxes = _clipped(site, boxes, facts)
    score = _judged(site, choice, boxes, score, facts)
    if 0 < choice.before < total:
        score, order = site.add_several("TopK", score, site.ints(choice.before), outputs=2, axis=1)
        total = choice.before
        boxes = rows_at(site, boxes, order)
    wide = site.add("Add", boxes, site.parts(np.array([0, 0, 1, 1])))  # both corners included
    alone = site.add("Unsqueeze", score, site.ints(1))
    at_most = choice.after if choice.after > 0 else total
    image, _, index = suppress(site, wide, alone, choice.threshold, LOWEST, at_most)
    return _Found(pick(site, boxes, (image, index)), (image, index), score)


def _by_anchor(site: Site, x: str, dims: tuple[int, ...], target: tuple[int, ...]) -> str:
    """Maps (N, A..., H, W) as one row for each image, or one for each anchor, cell by cell."""
    moved = site.add("Transpose", x, perm=[0, 2, 3, 1])
    return site.reshape(Value(moved, (dims[0], *dims[2:], dims[1])), target)


def _scaled(site: Site, layer: Proposal, deltas: Value) -> str:
    if layer.box_coordinate_scale == 1 and layer.box_size_scale == 1:
        return deltas.name
    each = np.repeat([layer.box_coordinate_scale, layer.box_size_scale], 2)
    by = np.tile(each, len(layer.base))[:, None, None]
    return site.add("Div", deltas.name, site.parts(by))


def _moved(site: Site, grid: Tensor, moves: str) -> str:
    """Anchors (..., 4) moved and resized by deltas (N, H W A, 4)."""
    anchors = grid.reshape(-1, 4)
    size = anchors[:, 2:] - anchors[:, :2] + 1
    center = anchors[:, :2] + 0.5 * size
    sizes, centers = site.constant(size, "sizes"), site.constant(center, "centers")
    move, growth = halves(site, moves)
    moved = site.add("Add", site.add("Mul", move, sizes), centers)
    return box_corners(site, moved, site.add("Mul", site.add("Exp", growth), sizes))


def _facts(site: Site, im_info: Value) -> Facts:
    """Facts of each image, (M, 1, 1): M = N, or 1 for all images."""
    count = im_info.dims[-1]
    dims = (prod(im_info.dims[:-1]), count)
    table = columns(site, site.reshape(im_info, dims), count)
    wanted = (0, 1, 2, min(3, count - 1))
    return [site.add("Unsqueeze", table[k], site.ints(2)) for k in wanted]


def _facts_of(site: Site, facts: Facts, image: str, im_info: Value) -> Facts:
    """Facts of the image of each region, (K, 1), or (1, 1)."""
    flat = [site.add("Squeeze", fact, site.ints(2)) for fact in facts]
    if prod(im_info.dims[:-1]) == 1:
        return flat
    index = site.add("Squeeze", image, site.ints(1))
    return [site.add("Gather", fact, index) for fact in flat]


def _clipped(site: Site, boxes: str, facts: Facts) -> str:
    """Boxes with their corners in the image."""
    one, zero = site.number(1), site.number(0)
    last = [site.add("Sub", facts[k], one) for k in (1, 0)] * 2  # x, y, x, y
    edges = zip(columns(site, boxes), last, strict=True)
    moved = [site.add("Max", site.add("Min", edge, most), zero) for edge, most in edges]
    return site.add("Concat", *moved, axis=-1)


def _judged(site: Site, choice: Choice, boxes: str, score: str, facts: Facts) -> str:
    """The scores (N, A), LOWEST where score or box is NaN, and LOWEST or 0 for too small a box."""
    x1, y1, x2, y2 = columns(site, boxes)
    odd, fits = site.add("IsNaN", score), ""
    for low, high, scale in ((x1, x2, facts[3]), (y1, y2, facts[2])):
        size = site.scaled(site.add("Sub", high, low), 1.0, 1.0)
        enough = site.add("GreaterOrEqual", size, site.scaled(scale, choice.min_size))
        enough, none = (
            site.add("Squeeze", x, site.ints(2)) for x in (enough, site.add("IsNaN", size))
        )
        fits = site.add("And", fits, enough) if fits else enough
        odd = site.add("Or", odd, none)
    small = site.number(0 if choice.keep_small else LOWEST)
    kept = site.add("Where", fits, score, small)
    return site.add("Where", odd, site.number(LOWEST), kept)
