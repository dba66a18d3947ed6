"""What a net's outputs are, as their shapes tell, and which part of them belongs to an example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

import numpy as np

from moka.errors import MokaError, NetError
from moka.inference.fast import MOST_SHAPES
from moka.layers.base import BoxColumns
from moka.net import Net
from moka.predict.regions import detections_of_regions
from moka.serving.errors import BrokenModelError
from moka.serving.net_inputs import IMAGE_INFO, NetInputs
from moka.types import Floats, HeightWidth, Shape

# Scores (N, classes, ...), rows of detections, scores (N, C, H, W), anything else.
CLASSES, BOXES, MAP, VALUES = "classes", "boxes", "map", "values"
BOX_ROW = 7  # image, class, score, left, top, right, bottom
BOX_ROWS = (BOX_ROW, 15)  # of detections; four corners may follow
REGIONS = "rois"  # R-CNN's blob of regions (R, 5), image and corners in pixels of the net's input
DELTA_CLASSES = 2  # that R-FCN's deltas tell apart: background and object


class RegionOutputs(NamedTuple):
    """The outputs of R-CNN's nets for testing.

    Attributes:
        scores: the name of the output (R, C, ...).
        deltas: the name of the output (R, 4 C, ...) or (R, 8, ...).
    """

    scores: str
    deltas: str


@dataclass(frozen=True)
class Outputs:
    """The outputs of a net.

    Attributes:
        kind: CLASSES, BOXES, MAP or VALUES.
        names: of the outputs.
        sizes: of the batches that the net takes, rising.
        regions: outputs from which boxes are made; None: the net makes them.
        pixels: height and width of the net's input if its boxes are in its pixels; None: they are
            fractions of it.
        columns: for an output whose boxes are not rows as SSD has them, what its columns hold.
    """

    kind: str
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    regions: RegionOutputs | None = None
    pixels: HeightWidth | None = None
    columns: Mapping[str, BoxColumns] = field(default_factory=dict)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The blobs to compute."""
        return (*self.names, REGIONS) if self.regions else self.names

    def of_example(self, made: Mapping[str, Floats], size: int, i: int) -> dict[str, Floats]:
        """The part of the blobs of a batch that belongs to example `i` of `size`.

        Raises:
            BrokenModelError: a blob has no row for each example.
        """
        return {name: self._part(name, values, size, i) for name, values in made.items()}

    def _part(self, name: str, values: Floats, size: int, i: int) -> Floats:
        if _are_boxes(values.shape):
            rows = values.reshape(-1, values.shape[-1])
            return rows[(rows[:, 0] == i) & (rows[:, 1] >= 0)]
        if size == 1 and (self.kind == VALUES or self.regions or len(values) != 1):
            return values.copy()
        if values.shape[:1] != (size,):
            raise BrokenModelError(
                f'blob "{name}" has shape {values.shape}, not a row for each of {size} examples.'
            )
        return values[i].copy()

    def boxes(self, blobs: Mapping[str, Floats]) -> Floats:
        """The detections (K, 7) of one example, with corners in fractions of the image.

        Args:
            blobs: of this example (`of_example`).
        """
        if self.regions and self.pixels:
            scores, deltas = (blobs[name] for name in self.regions)
            rows = detections_of_regions(scores, deltas, blobs[REGIONS], self.pixels)
        else:
            listing = [name for name in blobs if name in self.columns]
            found = [
                rows_of(blobs[name], self.columns[name], number)
                for number, name in enumerate(listing)
            ]
            found += [each[:, :BOX_ROW] for each in blobs.values() if _are_rows(each.shape)]
            rows = np.concatenate(found)
        if self.pixels:
            height, width = self.pixels
            rows = (rows / [1, 1, 1, width, height, width, height]).astype(np.float32)
        return rows


def rows_of(values: Floats, columns: BoxColumns, number: int) -> Floats:
    """The boxes of one example as rows (K, 7) as SSD has them.

    Args:
        number: of the output among those that list boxes, which is the label where no column tells
            it.
    """
    table = values.reshape(-1, columns.row)
    corners = table[:, columns.corner : columns.corner + 4]
    has_area = (corners[:, 2:] > corners[:, :2]).all(1)
    rows = np.zeros((int(has_area.sum()), BOX_ROW), np.float32)
    rows[:, 1] = number if columns.label is None else table[has_area, columns.label]
    rows[:, 2] = table[has_area, columns.score]
    rows[:, 3:] = corners[has_area]
    return rows


def outputs_of(net: Net, inputs: NetInputs, largest: int) -> Outputs:
    """What a net gives out, and in which batches it takes examples: at most as many sizes as
    programs are kept for. A net whose outputs have no row for each example then runs one at a
    time; if it cannot either, it keeps its own batch.

    Raises:
        NetError: nothing of an output belongs to one example.
    """
    names = tuple(net.graph.outputs)
    declared = {shape[0] for shape in net.input_shapes.values()}
    image = next(iter(inputs.images.values()), None)
    columns = _columns(net)
    in_pixels = bool(columns) or IMAGE_INFO in inputs.numbers
    pixels = image.shape[1:] if image and in_pixels else None
    regions = _region_outputs(net, inputs)
    if regions and image:
        return Outputs(BOXES, names, (1,), regions, image.shape[1:])
    wanted = tuple(sorted({max(1, largest >> k) for k in range(MOST_SHAPES)}))
    for sizes in (wanted, (1,), tuple(declared)[:1]):
        kinds = {_kind(net, inputs, size) for size in sizes}
        if len(kinds) == 1 and (kind := kinds.pop()) is not None:
            return Outputs(kind, names, sizes, None, pixels, columns)
    raise NetError(f'output "{names[0]}" is not a row for each image.', file=net.graph.file)


def _kind(net: Net, inputs: NetInputs, size: int) -> str | None:
    """What the outputs for so many examples are; None: nothing of theirs belongs to one example."""
    try:
        made = net.infer_shapes(inputs.shapes(size))
    except MokaError:
        return None
    shapes = [made[name] for name in net.graph.outputs]
    first = shapes[0]
    if not all(_are_boxes(shape) or shape[:1] == (size,) for shape in shapes):
        return VALUES if size == 1 else None
    if _are_boxes(first) or _columns(net):
        return BOXES
    return MAP if len(first) == 4 and first[2] * first[3] > 1 else CLASSES


def _columns(net: Net) -> dict[str, BoxColumns]:
    """The outputs that list boxes in another way than SSD."""
    outputs = set(net.graph.outputs)
    found: dict[str, BoxColumns] = {}
    for place in net.places:
        columns = place.layer.box_columns
        if columns is None or (columns.are_regions and not outputs.issubset(place.node.tops)):
            continue
        for number, top in enumerate(place.node.tops):
            if top in outputs and columns.top in (None, number):
                found[top] = columns
    return found


def _region_outputs(net: Net, inputs: NetInputs) -> RegionOutputs | None:
    """R-CNN's outputs, of a net that has its regions as a blob; None: it is no such net."""
    if REGIONS not in net.blobs:
        return None
    try:
        made = net.infer_shapes(inputs.shapes(1))
    except MokaError:
        return None
    counts = {name: prod(made[name][1:]) for name in net.graph.outputs if name != REGIONS}
    for scores, classes in counts.items():
        for deltas, count in counts.items():
            if scores != deltas and count in (4 * classes, 4 * DELTA_CLASSES) and classes > 1:
                return RegionOutputs(scores, deltas)
    return None


def _are_boxes(shape: Shape) -> bool:
    return len(shape) == 4 and shape[:2] == (1, 1) and shape[3] in BOX_ROWS


def _are_rows(shape: Shape) -> bool:
    return len(shape) == 2 and shape[1] in BOX_ROWS
