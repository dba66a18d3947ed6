"""Prior boxes: the boxes of several sizes around each cell that SSD moves and judges."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, NamedTuple

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
from moka.types import Shape

DEFAULT_VARIANCE = 0.1
whole = Check(lambda v: v > 0 and v == int(v), "a whole number > 0")


class CellBox(NamedTuple):
    """A box around the center of each cell, in pixels.

    Attributes:
        right, down: how far its center lies off the cell's.
        within: it is cut at the edges of the image.
    """

    width: float
    height: float
    right: float = 0
    down: float = 0
    within: bool = False


def aspect_ratios(given: Sequence[float], flip: bool) -> list[float]:
    """1 and the ratios given, each followed by its inverse if `flip`; one that differs by less
    than 1e-6 from an earlier one counts once."""
    ratios = [1.0]
    for ratio in given:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios.append(ratio)
            if flip:
                ratios.append(1 / ratio)
    return ratios


def prior_sizes(
    min_sizes: Sequence[float],
    max_sizes: Sequence[float],
    ratios: Sequence[float],
    squares: bool = True,
) -> list[CellBox]:
    """The boxes of one cell.

    For each min_size: with `squares` a square of that side, and one of side
    sqrt(min_size max_size) if there are max_sizes; then for each ratio other than 1 a box
    min_size sqrt(ratio) wide and min_size / sqrt(ratio) high.
    """
    boxes: list[CellBox] = []
    for k, small in enumerate(min_sizes):
        if squares:
            boxes.append(CellBox(small, small))
        if squares and max_sizes:
            side = sqrt(small * max_sizes[k])
            boxes.append(CellBox(side, side))
        boxes += [
            CellBox(small * sqrt(ratio), small / sqrt(ratio))
            for ratio in ratios
            if abs(ratio - 1) >= 1e-6
        ]
    return boxes


def dense_boxes(
    sizes: Sequence[float], densities: Sequence[float], ratios: Sequence[float]
) -> list[CellBox]:
    """Boxes of one cell whose centers form a grid: density rows and columns, size // density apart.

    Args:
        sizes: whole pixels.
        densities: whole numbers, one for each size.
        ratios: a grid for each of these.
    """
    boxes = []
    for size, density in zip(sizes, densities, strict=True):
        apart = size // density
        first = apart / 2 - size // 2
        places = [first + k * apart for k in range(int(density))]
        for ratio in ratios:
            width, height = size * sqrt(ratio), size / sqrt(ratio)
            boxes += [CellBox(width, height, x, y, within=True) for y in places for x in places]
    return boxes


def grid_boxes(
    boxes: Sequence[CellBox],
    center: tuple[float, float],
    cells: tuple[int, int],
    step: tuple[float, float],
    image: tuple[int, int],
) -> Tensor:
    """Boxes (H W B, 4) around each cell of a grid, as fractions of the image, in double.

    Args:
        boxes: the B of a cell.
        center: where in a cell, as fractions of a step (x, y), the centers of the boxes lie.
        cells: H, W of the grid.
        step: height, width of a cell in pixels.
        image: height, width in pixels.
    """
    sizes = torch.tensor(boxes, dtype=torch.float64).reshape(-1, len(CellBox._fields))
    width, height, right, down, within = sizes.unbind(1)
    column = torch.arange(cells[1], dtype=torch.float64)[None, :, None]
    row = torch.arange(cells[0], dtype=torch.float64)[:, None, None]
    x = ((column + center[0]) * step[1] + right).expand(*cells, len(boxes))
    y = ((row + center[1]) * step[0] + down).expand(*cells, len(boxes))
    edges = [x - width / 2, y - height / 2, x + width / 2]
    found = torch.stack([*edges, y + height / 2], -1)
    found = found / torch.tensor(image[::-1] * 2, dtype=torch.float64)
    cut = torch.cat([found[..., :2].clamp_min(0), found[..., 2:].clamp_max(1)], -1)
    return cut.where(within.bool()[:, None], found).flatten(0, 2)


class _Priors(Layer):
    """Base of PriorBox and PriorBoxClustered: variances, the image's size, steps, clipping."""

    clip: bool = option()
    variance: tuple[float, ...] = option(positive)
    img_size: int | None = option(positive)
    img_h: int | None = option(positive)
    img_w: int | None = option(positive)
    step: float | None = option(not_negative)
    step_h: float | None = option(not_negative)
    step_w: float | None = option(not_negative)
    offset: float = option()
    offset_h: tuple[float, ...] = option()
    offset_w: tuple[float, ...] = option()
    paired_offsets: bool = option()

    def setup(self, x: Shape, image: Shape) -> None:
        if len(self.variance) not in (0, 1, 4):
            raise NetError(
                f"variance must be given once, or 4 times (one for each coordinate), got"
                f" {len(self.variance)} values."
            )
        if self.img_size is not None and (self.img_h is not None or self.img_w is not None):
            raise NetError("give either img_size or img_h and img_w, not both.")
        if (self.img_h is None) != (self.img_w is None):
            raise NetError("give both img_h and img_w, or neither.")
        if self.step and (self.step_h or self.step_w):
            raise NetError("give either step or step_h and step_w, not both.")
        if bool(self.step_h) != bool(self.step_w):
            raise NetError("give both step_h and step_w, or neither.")
        across, down = self.offset_w or (self.offset,), self.offset_h or (self.offset,)
        self.places = [(x, y) for x in across for y in down]
        if self.paired_offsets and self.offset_w and self.offset_h:
            self.places = self._pairs()
        self.sizes = self.sizes_of_a_cell()
        self._known: dict[tuple[Any, ...], Tensor] = {}

    def sizes_of_a_cell(self) -> list[CellBox]:
        """The boxes around each cell."""
        raise NotImplementedError

    def _pairs(self) -> list[tuple[float, float]]:
        """Each offset_w with the offset_h of the same place in the list."""
        if len(self.offset_w) != len(self.offset_h):
            raise NetError(
                "paired_offsets: true needs offset_w as often as offset_h, got"
                f" {len(self.offset_w)} and {len(self.offset_h)} values."
            )
        return list(zip(self.offset_w, self.offset_h, strict=True))

    def top_shapes(self, x: Shape, image: Shape) -> list[Shape]:
        for shape in (x, image):
            if len(shape) != 4:
                raise NetError(f"takes blobs (N, C, H, W), got shape {shape}.")
        per_cell = len(self.sizes) * sum(map(len, self.centers()))
        return [(1, 2, x[2] * x[3] * per_cell * 4)]

    def centers(self) -> list[list[tuple[float, float]]]:
        """Groups of places in a cell (x, y), as fractions of a step. For each group all sizes
        follow each other, each with a box around every place of the group."""
        return [[place] for place in self.places]

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        cells, pixels = (x.shape[2], x.shape[3]), (image.shape[2], image.shape[3])
        key = (cells, pixels, x.dtype, x.device)
        if key not in self._known:
            self._known[key] = self._boxes(cells, pixels).to(x)
        return self._known[key].clone()

    def _boxes(self, cells: tuple[int, int], data: tuple[int, int]) -> Tensor:
        image = (self.img_h or self.img_size or data[0], self.img_w or self.img_size or data[1])
        height, width = self.step_h or self.step or 0, self.step_w or self.step or 0
        if not height or not width:
            height, width = image[0] / cells[0], image[1] / cells[1]
        step = (height, width)
        groups = []
        for group in self.centers():
            around = [grid_boxes(self.sizes, at, cells, step, image) for at in group]
            groups.append(
                torch.stack(around, 1).view(cells[0] * cells[1], len(self.sizes) * len(group), 4)
            )
        boxes = torch.cat(groups, 1).view(-1, 4)
        if self.clip:
            boxes = boxes.clamp(0, 1)
        given = self.variance or (DEFAULT_VARIANCE,)
        variances = torch.tensor(given * (4 // len(given)), dtype=torch.float64)
        return torch.stack([boxes, variances.expand_as(boxes)]).reshape(1, 2, -1)


@layer("PriorBox", bottoms=2, tops=1, fork="SSD", differentiable=False)
class PriorBox(_Priors):
    """SSD's prior boxes: for each cell of a feature map boxes of several sizes and shapes.

    For each cell, in row-major order, and each min_size: a square of side min_size; with
    max_size a square of side sqrt(min_size max_size); then for each further aspect_ratio r a box
    min_size sqrt(r) wide and min_size / sqrt(r) high, followed by that of 1 / r if `flip`.
    The center lies at (index + offset) step.

    Bottoms: features (N, C, H, W) and the image (N, C, image height, image width); only their
    shapes matter. Top: (1, 2, H W B 4) for B boxes a cell: first the corners x1, y1, x2, y2 as
    fractions of the image, then the variance of each. Computed once for each pair of shapes.
    No gradient. Message: prior_box_param. `min_size` and `max_size` are in pixels and, as in SSD,
    lose their fractions when boxes are computed, unless `fractional_sizes` (Moka's own field) is
    set: OpenCV and OpenVINO keep them. `variance`: one for all coordinates or four; 0.1 without.
    `step` (or step_h, step_w) in pixels, else image / map; img_size (or img_h, img_w) stands for
    the image's size. `clip` moves corners into [0, 1]. offset_h and offset_w stand for `offset`
    of one axis. Several of them (tl_ssd) are several centers in a cell, for each offset_w all
    offset_h, with all boxes around each; with them, and wherever both stand beside an aspect_ratio
    without max_size, there are no boxes of the ratio 1. With `paired_offsets` (Moka's own field: so
    OpenCV reads them) the first offset_w and the first offset_h are a center, the second ones the
    next; each box comes around all centers before the next box, and boxes of the ratio 1 stay. With
    `denser_prior_boxes` (TextBoxes++) each box comes twice, at last around the middle of the cell's
    lower edge. PriorBoxClustered's fields are refused.

    OpenVINO has, in place of min_size, boxes of each `fixed_size`, whole pixels, in a grid around
    the center: `density` (one for each size) rows and columns, fixed_size / density apart, rounded
    down; one such grid for each `fixed_ratio`, or without one for 1 and each aspect_ratio. Their
    x1 and y1 are at least 0, their x2 and y2 at most 1.

    Errors: neither min_size nor fixed_size, or both; not as many max_sizes as min_sizes, or one
    that is not larger; a ratio of 0 or less; 2, 3 or more than 4 variances; step_h without step_w
    or the reverse, or beside step; several offsets without an aspect_ratio; paired_offsets of two
    lengths. Liu et al., 2016 (SSD); Mueller and Dietmayer, 2018 (tl_ssd).
    """

    min_size: tuple[float, ...] = option(positive)
    max_size: tuple[float, ...] = option(positive)
    aspect_ratio: tuple[float, ...] = option(positive)
    flip: bool = option()
    fractional_sizes: bool = option()
    denser_prior_boxes: bool = option()
    width: tuple[float, ...] = option()
    height: tuple[float, ...] = option()
    fixed_size: tuple[float, ...] = option(whole)
    fixed_ratio: tuple[float, ...] = option(positive)
    density: tuple[float, ...] = option(whole)

    def sizes_of_a_cell(self) -> list[CellBox]:
        small, large = self.min_size, self.max_size
        if self.width or self.height:
            raise NetError("width and height belong to PriorBoxClustered.")
        if len(self.density) != len(self.fixed_size):
            raise NetError(
                f"density must be given as often as fixed_size, got {len(self.density)} and"
                f" {len(self.fixed_size)} values."
            )
        if small and self.fixed_size:
            raise NetError("give either min_size or fixed_size, not both.")
        if self.fixed_size:
            given = self.fixed_ratio or aspect_ratios(self.aspect_ratio, self.flip)
            return dense_boxes(self.fixed_size, self.density, given)
        if not small:
            raise NetError("min_size is missing.")
        if large and len(large) != len(small):
            raise NetError(
                f"max_size must be given as often as min_size, got {len(large)} and {len(small)}"
                " values."
            )
        for low, high in zip(small, large, strict=False):
            if high <= low:
                raise NetError(f"max_size must be larger than min_size, got {high:g} and {low:g}.")
        if not self.fractional_sizes:
            small, large = tuple(map(int, small)), tuple(map(int, large))
        ratios = aspect_ratios(self.aspect_ratio, self.flip)
        sizes = prior_sizes(small, large, ratios, squares=not self._is_without_squares())
        if not sizes:
            raise NetError(
                "offset_w and offset_h together need an aspect_ratio other than 1, or a max_size."
            )
        return sizes

    def _is_without_squares(self) -> bool:
        """Whether the options are those of tl_ssd, which has no boxes of the ratio 1."""
        once = len(self.offset_w) == 1 and len(self.offset_h) == 1
        both = bool(self.offset_w and self.offset_h) and not self.paired_offsets
        return both and (not once or bool(self.aspect_ratio and not self.max_size))

    def centers(self) -> list[list[tuple[float, float]]]:
        if self.paired_offsets:
            return [self.places]
        if not self.denser_prior_boxes:
            return super().centers()
        return [[(x, y), (x, 1.0)] for x, y in self.places]


@layer(
    "PriorBoxClustered",
    bottoms=2,
    tops=1,
    message="prior_box_param",
    fork="OpenVINO",
    differentiable=False,
)
class PriorBoxClustered(_Priors):
    """Prior boxes of given widths and heights (found by clustering the boxes of a data set).

    Bottoms, top, steps, variances and clipping as in PriorBox. Message: prior_box_param; `width`
    and `height`, in pixels, give one box for each pair. Known to OpenCV and OpenVINO.

    Errors: no width, or not as many heights as widths; several offsets of an axis; fields that
    belong to PriorBox.
    """

    width: tuple[float, ...] = option(positive)
    height: tuple[float, ...] = option(positive)
    min_size: tuple[float, ...] = option()
    max_size: tuple[float, ...] = option()
    aspect_ratio: tuple[float, ...] = option()
    flip: bool = option()
    fractional_sizes: bool = option()
    fixed_size: tuple[float, ...] = option()
    fixed_ratio: tuple[float, ...] = option()
    density: tuple[float, ...] = option()

    def sizes_of_a_cell(self) -> list[CellBox]:
        if self.fixed_size or self.fixed_ratio or self.density:
            raise NetError("fixed_size, fixed_ratio and density belong to PriorBox.")
        if self.min_size or self.max_size or self.aspect_ratio:
            raise NetError("min_size, max_size and aspect_ratio belong to PriorBox.")
        if len(self.places) > 1:
            raise NetError("offset_h and offset_w must be given once each; several are PriorBox's.")
        if not self.width or len(self.width) != len(self.height):
            raise NetError(
                f"width and height must be given equally often, got {len(self.width)} and"
                f" {len(self.height)} values."
            )
        return [CellBox(w, h) for w, h in zip(self.width, self.height, strict=True)]
