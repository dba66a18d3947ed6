"""Layers that pool over regions."""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.detection.boxes import as_float, as_index, columns
from moka.export.onnx.detection.roi_maxima import bin_maxima
from moka.export.onnx.table import exports
from moka.layers.detection.roi import PSROIPooling, ROIAlign, ROIPooling

DOUBLE = 11  # a data type as ONNX numbers them
NO_ROI_POOL = 22  # an opset whose MaxRoiPool ONNX Runtime 1.32 does not have


@exports(ROIPooling, fixed_from=1)
def export_roi_pooling(site: Site, layer: ROIPooling, x: Value, rois: Value) -> str:
    regions, scale = site.reshape(rois, (rois.dims[0], 5)), layer.scale[0]
    if site.opset >= NO_ROI_POOL:
        image, *edges = _edges(site, regions, layer.pad_ratio)
        x1, y1, x2, y2 = (
            _rounded(site, site.scaled(e, s))
            for e, s in zip(edges, layer.scale[::-1] * 2, strict=True)
        )
        down = _whole_bins(site, y1, y2, layer.pooled[0], x.dims[2])
        across = _whole_bins(site, x1, x2, layer.pooled[1], x.dims[3])
        return bin_maxima(site, x, as_index(site, image), down, across)
    if layer.pad_ratio or layer.scale[0] != layer.scale[1]:
        image, *edges = _edges(site, regions, layer.pad_ratio)
        scaled = [site.scaled(e, s) for e, s in zip(edges, layer.scale[::-1] * 2, strict=True)]
        regions, scale = site.add("Concat", image, *scaled, axis=1), 1.0
    return site.add(
        "MaxRoiPool", x.name, regions, pooled_shape=list(layer.pooled), spatial_scale=scale
    )


def _whole_bins(site: Site, first: str, last: str, bins: int, size: int) -> tuple[str, str]:
    """First and one-past-last cell (R, bins) of the bins between whole cells, both included."""
    length = site.scaled(site.add("Sub", last, first), 1.0, 1.0)
    step = site.add("Div", site.add("Max", length, site.number(1)), site.number(bins))
    low, high = (
        _cell(site, site.add("Add", site.add(op, steps), first), size)
        for op, steps in _edges_of_bins(site, step, bins)
    )
    return low, high


def _edges(site: Site, regions: str, pad_ratio: float = 0.0) -> list[str]:
    """Image, x1, y1, x2, y2 (R, 1) of regions enlarged by a share of their size on each side."""
    image, x1, y1, x2, y2 = columns(site, regions, 5)
    if not pad_ratio:
        return [image, x1, y1, x2, y2]
    pads = [
        site.scaled(site.add("Sub", high, low), pad_ratio, pad_ratio)
        for low, high in ((x1, x2), (y1, y2))
    ]
    first = [site.add("Sub", edge, pad) for edge, pad in zip((x1, y1), pads, strict=True)]
    second = [site.add("Add", edge, pad) for edge, pad in zip((x2, y2), pads, strict=True)]
    return [image, *first, *second]


@exports(ROIAlign, fixed_from=1)
def export_roi_align(site: Site, layer: ROIAlign, x: Value, rois: Value) -> str:
    """Bilinear values at the corners of bins; or their means over points inside of bins, or over
    points of whole bins."""
    _, channels, height, width = x.dims
    regions = site.reshape(rois, (rois.dims[0], 5))
    pad_ratio = layer.pad_ratio if layer.at_corners else 0.0
    image, x1, y1, x2, y2 = _edges(site, regions, pad_ratio)
    y1, y2 = (site.scaled(edge, layer.scale[0]) for edge in (y1, y2))
    x1, x2 = (site.scaled(edge, layer.scale[1]) for edge in (x1, x2))
    (bins_down, bins_across), index = layer.pooled, as_index(site, image)
    if layer.at_corners:
        rows = _corners(site, y1, y2, bins_down, height)
        grid = _sampled(site, x, index, rows, _corners(site, x1, x2, bins_across, width))
        return site.add("Transpose", grid, perm=[0, 3, 1, 2])
    if layer.sampling_ratio is not None:
        return site.add(
            "RoiAlign",
            x.name,
            site.add("Concat", x1, y1, x2, y2, axis=1),
            site.add("Squeeze", index, site.ints(1)),
            output_height=bins_down,
            output_width=bins_across,
            sampling_ratio=max(0, layer.sampling_ratio),
            **({"coordinate_transformation_mode": "output_half_pixel"} if site.opset >= 16 else {}),
        )
    rows, most_down = _inner_points(site, y1, y2, bins_down, height)
    along, most_across = _inner_points(site, x1, x2, bins_across, width)
    grid = _sampled(site, x, index, rows, along)
    sizes = [site.ints(-1, bins_down), most_down, site.ints(bins_across), most_across]
    shape = site.add("Concat", *sizes, site.ints(channels), axis=0)
    by_bin = site.add("Reshape", grid, shape)
    means = site.reduce("ReduceSum", by_bin, [2, 4], keep=False)
    return site.add("Transpose", means, perm=[0, 3, 1, 2])


# The two cells around each of some points along an axis, and their shares, (R, points) each.
Points = list[tuple[str, str]]


def _sampled(site: Site, x: Value, image: str, down: Points, across: Points) -> str:
    """Sums (R, points, points, C) of the four cells around each point, weighted by their shares."""
    _, channels, height, width = x.dims
    cells = site.add("Transpose", x.name, perm=[0, 2, 3, 1])
    cells = site.add("Reshape", cells, site.ints(-1, channels))
    plane = site.add("Mul", image, site.ints(height * width))
    start = site.add("Unsqueeze", plane, site.ints(2))
    total = ""
    for row, row_share in down:
        line = site.add("Mul", site.add("Unsqueeze", row, site.ints(2)), site.ints(width))
        for column, column_share in across:
            place = site.add("Add", line, site.add("Unsqueeze", column, site.ints(1)))
            values = site.add("Gather", cells, site.add("Add", start, place))
            share = site.add(
                "Mul",
                site.add("Unsqueeze", row_share, site.ints(2)),
                site.add("Unsqueeze", column_share, site.ints(1)),
            )
            part = site.add("Mul", values, site.add("Unsqueeze", share, site.ints(3)))
            total = site.add("Add", total, part) if total else part
    return total


def _corners(site: Site, start: str, end: str, bins: int, size: int) -> Points:
    """The bins' corners along an axis; no share outside of the map and for a region without
    extent."""
    start, end = (site.scaled(edge, 1.0, -0.5) for edge in (start, end))
    extent = site.add("Sub", end, start)
    step = site.scaled(extent, 1 / bins)
    steps = site.parts(np.arange(bins + 1)[None])
    at = site.add("Add", start, site.add("Mul", step, steps))
    inside = site.add(
        "And",
        site.add("GreaterOrEqual", at, site.number(-0.5)),
        site.add("LessOrEqual", at, site.number(size - 0.5)),
    )
    counts = site.add("And", inside, site.add("Greater", extent, site.number(0)))
    return _shares(site, at, as_float(site, counts), size)


def _inner_points(site: Site, start: str, end: str, bins: int, size: int) -> tuple[Points, str]:
    """The points inside of bins along an axis, bin by bin, each with its part of the bin's mean;
    and how many each bin has, (1,), those of no part counted."""
    extent = site.add("Max", site.add("Sub", end, start), site.number(1))
    step = site.add("Div", extent, site.number(bins))
    low, high = (
        _within(site, site.add("Add", start, site.add("Mul", step, site.parts(k[None]))), size)
        for k in (np.arange(bins), np.arange(1, bins + 1))
    )
    count = site.add("Ceil", site.add("Sub", high, low))
    flat = site.add("Reshape", count, site.ints(-1))
    most = site.add("Max", site.reduce("ReduceMax", flat, [0], keep=False), site.number(1))
    zero, one = (site.constant(np.array(k, np.int64)) for k in (0, 1))
    numbers = as_float(site, site.add("Range", zero, as_index(site, most), one))
    each, apart, first = (site.add("Unsqueeze", v, site.ints(2)) for v in (count, step, low))
    per_bin = site.add("Max", each, site.number(1))
    place = site.add("Div", site.add("Mul", site.scaled(numbers, 1.0, 0.5), apart), per_bin)
    part = site.add("Div", as_float(site, site.add("Less", numbers, each)), per_bin)
    row = site.ints(0, -1)
    at, part = (site.add("Reshape", v, row) for v in (site.add("Add", first, place), part))
    return _shares(site, at, part, size), site.add("Unsqueeze", as_index(site, most), site.ints(0))


def _within(site: Site, at: str, most: int) -> str:
    """Places held in [0, most]."""
    return site.add("Min", site.add("Max", at, site.number(0)), site.number(most))


def _shares(site: Site, at: str, part: str, size: int) -> Points:
    """The cells before and after points (R, K) that are held in the map; their shares times the
    points' own parts."""
    held = _within(site, at, size - 1)
    low = site.add("Floor", held)
    second = site.add("Sub", held, low)
    first = site.add("Sub", site.number(1), second)
    high = site.add("Min", site.scaled(low, 1.0, 1.0), site.number(size - 1))
    return [
        (as_index(site, cell), site.add("Mul", share, part))
        for cell, share in ((low, first), (high, second))
    ]


@exports(PSROIPooling, fixed_from=1)
def export_psroi_pooling(site: Site, layer: PSROIPooling, x: Value, rois: Value) -> str:
    """Sums over bins from the sums over all cells above and left of each cell."""
    _, channels, height, width = x.dims
    group, scale = layer.group_size, layer.spatial_scale
    image, *edges = columns(site, site.reshape(rois, (rois.dims[0], 5)), 5)
    x1, y1, x2, y2 = (_rounded(site, edge) for edge in edges)
    down = _bins(site, y1, y2, scale, group, height)
    across = _bins(site, x1, x2, scale, group, width)
    sums = site.add("Cast", x.name, to=DOUBLE)
    for axis in (2, 3):
        sums = site.add("CumSum", sums, site.constant(np.array(axis, np.int64)))
    sums = site.add(
        "Pad",
        sums,
        site.ints(0, 0, 1, 1, 0, 0, 0, 0),
        site.constant(np.array(0, np.float64)),
    )
    flat = site.add("Reshape", sums, site.ints(-1))
    area = (height + 1) * (width + 1)
    planes = np.arange(channels).reshape(1, layer.output_dim, group, group) * area
    whole = site.add("Mul", as_index(site, image), site.ints(channels * area))
    start = site.add(
        "Add", site.add("Unsqueeze", whole, site.ints(2, 3)), site.constant(planes, "planes")
    )

    def upto(row: str, column: str) -> str:
        """Sums (R, C, group, group) over the cells above and left of these."""
        line = site.add("Mul", site.add("Unsqueeze", row, site.ints(1, 3)), site.ints(width + 1))
        place = site.add("Add", line, site.add("Unsqueeze", column, site.ints(1, 2)))
        return site.add("Gather", flat, site.add("Add", start, place))

    (top, bottom), (left, right) = down, across
    total = site.add("Sub", upto(bottom, right), upto(top, right))
    total = site.add("Add", site.add("Sub", total, upto(bottom, left)), upto(top, left))
    zero = site.ints(0)
    tall = site.add("Max", site.add("Sub", bottom, top), zero)
    wide = site.add("Max", site.add("Sub", right, left), zero)
    cells = site.add(
        "Mul",
        site.add("Unsqueeze", tall, site.ints(1, 3)),
        site.add("Unsqueeze", wide, site.ints(1, 2)),
    )
    count = site.add("Cast", site.add("Max", cells, site.ints(1)), to=DOUBLE)
    mean = site.add("Cast", site.add("Div", total, count), to=FLOAT)
    return site.add("Where", site.add("Greater", cells, zero), mean, site.number(0))


def _rounded(site: Site, x: str) -> str:
    """The nearest whole number; a half goes away from zero."""
    size = site.add("Floor", site.scaled(site.add("Abs", x), 1.0, 0.5))
    return site.add("Mul", site.add("Sign", x), size)


def _bins(site: Site, first: str, last: str, scale: float, bins: int, size: int) -> tuple[str, str]:
    """First and one-past-last cell (R, bins) of the bins along an axis."""
    start = site.scaled(first, scale)
    end = site.scaled(site.scaled(last, 1.0, 1.0), scale)
    extent = site.add("Max", site.add("Sub", end, start), site.number(0.1))
    step = site.add("Div", extent, site.number(bins))
    low, high = (
        _cell(site, site.add(op, site.add("Add", steps, start)), size)
        for op, steps in _edges_of_bins(site, step, bins)
    )
    return low, high


def _edges_of_bins(site: Site, step: str, bins: int) -> list[tuple[str, str]]:
    """How the first and the last edges of bins are rounded, and their distances (R, bins) from the
    first one's start."""
    numbers = ("Floor", np.arange(bins)), ("Ceil", np.arange(1, bins + 1))
    return [(op, site.add("Mul", step, site.parts(k[None]))) for op, k in numbers]


def _cell(site: Site, at: str, size: int) -> str:
    """A whole number as a cell of the map, or one past it."""
    return as_index(site, _within(site, at, size))
