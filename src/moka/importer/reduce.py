"""Reductions of axes to one number."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from moka.errors import NetError
from moka.importer.builder import MadeBlob, NodeSite
from moka.importer.conv import Sides, WindowOptions, convolve
from moka.importer.pooling import AVE, MAX, pool_images, pool_rows
from moka.importer.table import imports


class Reduced(NamedTuple):
    """How an operator is made: a layer before, an operation, a layer after; "" is none, a number
    an exponent."""

    before: str | float
    operation: str
    after: str | float


_REDUCTIONS = {
    "ReduceMean": Reduced("", "MEAN", ""),
    "ReduceSum": Reduced("", "SUM", ""),
    "ReduceL1": Reduced("AbsVal", "SUM", ""),
    "ReduceSumSquare": Reduced(2.0, "SUM", ""),
    "ReduceL2": Reduced(2.0, "SUM", 0.5),
    "ReduceLogSum": Reduced("", "SUM", "Log"),
    "ReduceLogSumExp": Reduced("Exp", "SUM", "Log"),
    "ReduceMax": Reduced("", "MAX", ""),
    "ReduceMin": Reduced("", "MIN", ""),
}
_IN_ONE = {("AbsVal", "SUM"): 2, (2.0, "SUM"): 3, ("", "SUM"): 1, ("", "MEAN"): 4}  # of Reduction


@imports(*_REDUCTIONS)
def import_reduction(site: NodeSite) -> None:
    x = site.blob(0)
    rank = len(x.shape)
    axes = site.setting("axes", 1)
    if not axes and site.attribute("noop_with_empty_axes", 0):
        site.give(site.add("Split", x))
        return
    reduced = sorted({axis % rank for axis in axes}) if axes else list(range(rank))
    how = _REDUCTIONS[site.node.op]
    y = _over_last_axes(site, x, reduced, how) or _reduced(
        site, _changed(site, x, how.before, "before"), reduced, how.operation
    )
    y = _changed(site, y, how.after, "after")
    site.give(site.reshape(y, site.result_shape(), part="shape"))


def _changed(site: NodeSite, x: MadeBlob, by: str | float, part: str) -> MadeBlob:
    if isinstance(by, float):
        return site.power(x, power=by, part=part)
    return site.add(by, x, part=part) if by else x


def _over_last_axes(site: NodeSite, x: MadeBlob, axes: list[int], how: Reduced) -> MadeBlob | None:
    """All axes from one on: one Reduction layer. None if it is another reduction."""
    last = max(axes)
    number = _IN_ONE.get((how.before, how.operation))
    of_images = (len(x.shape), axes, how.operation) == (4, [2, 3], "MEAN")  # a Pooling: see below
    is_end = axes == list(range(axes[0], last + 1)) and prod(x.shape[last + 1 :]) == 1
    if number is None or of_images or not is_end:
        return None
    return site.add("Reduction", x, part="reduction",
                    reduction_param={"operation": number, "axis": axes[0]})  # fmt: skip


def _reduced(site: NodeSite, x: MadeBlob, axes: list[int], operation: str) -> MadeBlob:
    """x with these axes reduced, in any shape that keeps the order of values."""
    if operation == "MIN":
        y = _reduced(site, site.power(x, scale=-1, part="negative"), axes, "MAX")
        return site.power(y, scale=-1, part="positive")
    if len(x.shape) == 4 and axes == [2, 3] and operation != "SUM":
        return pool_images(site, x, AVE if operation == "MEAN" else MAX)
    if axes == [1] and len(x.shape) > 2 and operation != "MAX":
        return over_channels(site, x, operation)
    if axes[0] == 0:
        raise NetError(f"Caffe cannot reduce the batch alone; this reduces axes {axes} of"
                       f" {len(x.shape)}.")  # fmt: skip
    for first, last in reversed(_blocks(axes)):
        shape, count = x.shape, prod(x.shape[first : last + 1])
        y = pool_rows(site, x, first, last, MAX if operation == "MAX" else AVE)
        if operation == "SUM":
            y = site.power(y, scale=float(count), part="sum")
        ones = (1,) * (last + 1 - first)
        x = site.reshape(y, (*shape[:first], *ones, *shape[last + 1 :]), part=f"axis{first}")
    return x


def _blocks(axes: list[int]) -> list[tuple[int, int]]:
    """The runs of neighboring axes, as first and last."""
    found: list[tuple[int, int]] = []
    for axis in axes:
        if found and found[-1][1] == axis - 1:
            found[-1] = found[-1][0], axis
        else:
            found.append((axis, axis))
    return found


def over_channels(site: NodeSite, x: MadeBlob, operation: str) -> MadeBlob:
    """SUM or MEAN of (N, C, spatial...) to (N, 1, spatial...): a convolution with a kernel of one
    value."""
    ones = (1,) * (len(x.shape) - 2)
    weight = np.ones((1, x.shape[1], *ones), np.float32)
    if operation == "MEAN":
        weight /= x.shape[1]
    none = Sides((0,) * len(ones), (0,) * len(ones))
    return convolve(site, x, weight, padding=none, window=WindowOptions(ones, ones, ones),
                    learned=False, part="channels")  # fmt: skip


@imports("ArgMax")
def import_argmax(site: NodeSite) -> None:
    if site.attribute("select_last_index", 0):
        raise NetError("Caffe takes the first of equal maxima.")
    axis = site.attribute("axis", 0) % len(site.blob(0).shape)
    y = site.add("ArgMax", site.blob(0), part="argmax", argmax_param={"axis": axis})
    site.give(site.reshape(y, site.result_shape(), part="shape"))
