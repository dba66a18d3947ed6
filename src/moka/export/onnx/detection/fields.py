"""The regions of MS-CNN and Cascade R-CNN as NonMaxSuppression, with the rows of the layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np
import torch

from moka.errors import NetError
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import LOWEST, as_float, or_else, pick, rows_at, suppress
from moka.export.onnx.detection.regression import restored
from moka.export.onnx.table import exports
from moka.layers.detection.fields import NO_BOX, BoxGroupOutput, BoxOutput
from moka.layers.detection.regression import field_centers
from moka.types import Shape

Candidates = tuple[str, str, int]  # boxes (N, P, 4), scores (N, P), P


@exports(BoxOutput, fixed_from=1)
def export_box_output(site: Site, layer: BoxOutput, *maps: Value) -> list[str]:
    found = []
    for k, x in enumerate(maps):
        images, channels, height, width = x.dims
        sizes = site.ints(1, channels - 5, 4)
        background, classes, deltas = site.add_several("Split", x.name, sizes, outputs=3, axis=1)
        best = site.reduce("ReduceMax", classes, [1], keep=True)
        score = Value(site.add("Sub", best, background), (images, 1, height, width))
        rate = layer.downsample_rate[k]
        fields = [(layer.field_w[k], layer.field_h[k])]
        places = site.reshape(
            Value(deltas, (images, 4, height, width)), (images, 1, 4, *x.dims[2:])
        )
        center, size = _placed(site, layer, places, fields, x.dims[2:], rate)
        first = _at_least_0(site, _first_corner(site, center, size))
        size = site.add("Min", size, site.add("Sub", _image(site, x.dims[2:], rate), first))
        last = site.scaled(site.add("Add", first, size), 1.0, -1.0)
        boxes = site.add("Concat", first, last, axis=2)
        found.append(_candidates(site, layer, boxes, size, score, 1))
    return _regions(site, layer, found)


@exports(BoxGroupOutput, fixed_from=1)
def export_box_group_output(site: Site, layer: BoxGroupOutput, *maps: Value) -> list[str]:
    found = []
    for group, x, deltas in zip(layer.box_group_param, maps[::2], maps[1::2], strict=True):
        fields = list(zip(group.field_w, group.field_h, strict=True))
        area, images = x.dims[2:], x.dims[0] // len(fields)
        objects = site.scaled(site.slice(x.name, 1, 0, 1), -1.0, 1.0)
        score = Value(objects, (x.dims[0], 1, *area))
        each = site.reshape(deltas, (images, len(fields), 4, *area))
        center, size = _placed(site, layer, each, fields, area, group.stride)
        first = _first_corner(site, center, size)
        last = site.scaled(site.add("Add", first, size), 1.0, -1.0)
        last = site.add("Min", last, _image(site, area, group.stride))
        first = _at_least_0(site, first)
        size = site.scaled(site.add("Sub", last, first), 1.0, 1.0)
        boxes = site.add("Concat", first, last, axis=2)
        found.append(_candidates(site, layer, boxes, size, score, len(fields)))
    return _regions(site, layer, found)


def _placed(
    site: Site,
    layer: BoxOutput | BoxGroupOutput,
    deltas: str,
    fields: Sequence[tuple[int, int]],
    area: Shape,
    stride: int,
) -> tuple[str, str]:
    """Centers and sizes (N, G, 2, H, W) in pixels that deltas (N, G, 4, H, W) make of the fields
    (width, height) of a map."""
    moves = restored(site, deltas, layer.deltas, after=2)
    move, growth = site.add_several("Split", moves, site.ints(2, 2), outputs=2, axis=2)
    reach, growth_limit = 1 / layer.bounds.xyr, log(layer.bounds.whr)
    move = site.add("Clip", move, site.number(-reach), site.number(reach))
    growth = site.add("Clip", growth, site.number(-growth_limit), site.number(growth_limit))
    size = site.parts(np.array(fields)[:, :, None, None])
    height, width = area
    centers = site.constant(field_centers(height, width, stride, torch.empty(0)), "centers")
    center = site.add("Add", site.add("Mul", move, size), centers)
    return center, site.add("Mul", site.add("Exp", growth), size)


def _first_corner(site: Site, center: str, size: str) -> str:
    return site.add("Sub", center, site.scaled(size, 0.5))


def _at_least_0(site: Site, x: str) -> str:
    return site.add("Max", x, site.number(0))


def _image(site: Site, area: Shape, stride: int) -> str:
    """Width and height of the image in pixels, (2, 1, 1)."""
    height, width = area
    return site.parts(np.array([width, height])[:, None, None] * stride)


def _candidates(
    site: Site, layer: BoxOutput | BoxGroupOutput, boxes: str, size: str, score: Value, groups: int
) -> Candidates:
    """Boxes and scores of a map; the score is LOWEST for what is no candidate.

    Args:
        boxes, size: (N, G, 4, H, W) and (N, G, 2, H, W).
        score: (N G, 1, H, W).
    """
    images, area = score.dims[0] // groups, score.dims[2:]
    total = groups * area[0] * area[1]
    alike = site.reshape(score, (images, groups, 1, *area))
    smaller = site.reduce("ReduceMin", size, [2], keep=True)
    good = site.add(
        "And",
        site.add("GreaterOrEqual", alike, site.number(layer.fg_thr)),
        site.add("GreaterOrEqual", smaller, site.number(layer.min_size)),
    )
    value = Value(site.add("Where", good, alike, site.number(LOWEST)), (images, groups, 1, *area))
    rows = Value(site.add("Transpose", boxes, perm=[0, 1, 3, 4, 2]), (images, groups, *area, 4))
    return site.reshape(rows, (images, total, 4)), site.reshape(value, (images, total)), total


def _regions(
    site: Site, layer: BoxOutput | BoxGroupOutput, found: Sequence[Candidates]
) -> list[str]:
    """The tops, from the candidates of each map."""
    limits = layer.limits
    if limits.over != "IOU":
        raise NetError(f"cannot be exported: ONNX's NonMaxSuppression has no {limits.over}.")
    boxes, scores = (
        site.add("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
        for parts in ([boxes for boxes, _, _ in found], [scores for _, scores, _ in found])
    )
    total = sum(count for *_, count in found)
    if 0 < limits.before < total:
        total = limits.before
        scores, order = site.add_several("TopK", scores, site.ints(total), outputs=2, axis=1)
        boxes = rows_at(site, boxes, order)
    wide = site.add("Add", boxes, site.parts([0, 0, 1, 1]))  # both corners included
    alone = site.add("Unsqueeze", scores, site.ints(1))
    image, _, index = suppress(site, wide, alone, limits.threshold, LOWEST, limits.after or total)
    best, place = pick(site, boxes, (image, index)), (image, index)
    if layer.beyond:
        best = site.add("Add", best, site.parts([0, 0, layer.beyond, layer.beyond]))
    score = site.add("Unsqueeze", pick(site, scores, place), site.ints(1))
    regions = site.add("Concat", as_float(site, image), best, axis=1)
    tops = [
        or_else(site, regions, site.parts(np.array([NO_BOX]))),
        or_else(site, site.add("Concat", regions, score, axis=1), site.parts(np.zeros((1, 6)))),
    ]
    return [
        site.add("Reshape", top, site.ints(-1, width, 1, 1))
        for top, width, _ in zip(tops, (5, 6), site.tops, strict=False)
    ]
