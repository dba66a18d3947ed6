"""Box regression as MS-CNN and Cascade R-CNN define it, as nodes."""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.detection.boxes import box_corners, halves
from moka.layers.detection.regression import DeltaStatistics


def restored(site: Site, deltas: str, scale: DeltaStatistics, *, after: int = 0) -> str:
    """Deltas from normalized ones: d * std + mean.

    Args:
        after: how many axes follow that of the four deltas.
    """
    std, mean = (np.array(x).reshape(4, *(1,) * after) for x in (scale.std, scale.mean))
    y = site.add("Mul", deltas, site.parts(std)) if (std != 1).any() else deltas
    return site.add("Add", y, site.parts(mean)) if mean.any() else y


def region_boxes(site: Site, deltas: str, regions: str) -> str:
    """Boxes (..., 4) in pixels that deltas (..., 4) make of regions (..., 4), both corners
    included."""
    first, second = halves(site, regions)
    size = site.scaled(site.add("Sub", second, first), 1.0, 1.0)
    center = site.scaled(site.add("Add", first, second), 0.5)
    move, growth = halves(site, deltas)
    moved = site.add("Add", site.add("Mul", move, size), center)
    wide = site.add("Mul", site.add("Exp", growth), size)
    return box_corners(site, moved, site.scaled(wide, 1.0, -1.0))


def rows_of_width(site: Site, x: Value, width: int) -> str:
    """A blob (R, ...) as rows of so many values."""
    return site.reshape(x, (x.dims[0], width))
