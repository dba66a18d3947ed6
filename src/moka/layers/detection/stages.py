"""The stages of Cascade R-CNN: from regions to better ones, and what each stage learns."""

from __future__ import annotations

from math import inf, log2, prod

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.detection.boxes import overlap
from moka.layers.detection.ranks import rank_in_group
from moka.layers.detection.regression import RegressionLayer, region_boxes
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, shape_text
from moka.types import Shape


def check_rows(what: str, shape: Shape, *widths: int) -> None:
    """Raises NetError unless a blob is a list of rows, one of these values wide."""
    if not shape or prod(shape[1:]) not in widths:
        wanted = " or ".join(map(str, widths))
        raise NetError(f"{what} are rows of {wanted} values, got shape {shape_text(shape)}.")


def check_as_many(*shapes: Shape) -> None:
    """Raises NetError unless all blobs have as many rows."""
    if len({shape[0] for shape in shapes}) > 1:
        counts = ", ".join(str(shape[0]) for shape in shapes)
        raise NetError(f"the bottoms have different numbers of rows: {counts}.")


@layer(
    "DecodeBBox",
    bottoms=(2, 3),
    tops=1,
    fork="Cascade R-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class DecodeBBox(RegressionLayer):
    """Regions moved by what a stage has predicted, for the next stage.

    Bottoms: deltas (R, 8), of which the second four count; regions (R, 5) of image and corners
    x1, y1, x2, y2 in pixels; in TRAIN optionally the matched true boxes (R, 6) of ProposalTarget.
    Top: regions (K, 5, 1, 1). In TRAIN those are left out whose corners have changed places, and
    those whose overlap with their true box (the last of the six values) is gt_iou_thr or more.
    No gradient. Messages: decode_bbox_param, bbox_reg_param. Cai and Vasconcelos, 2018.

    Errors: counts that do not fit; true boxes in TEST; no region left.
    """

    gt_iou_thr: float = option()

    def setup(self, *bottom_shapes: Shape) -> None:
        self.deltas = self.scale_of_deltas()
        if len(bottom_shapes) > 2 and not self.training:
            raise NetError("takes true boxes in the phase TRAIN only.")

    def top_shapes(self, deltas: Shape, rois: Shape, *truth: Shape) -> list[Shape]:
        check_rows("deltas", deltas, 8)
        check_rows("regions", rois, 5)
        check_as_many(deltas, rois, *truth)
        return [(rois[0], 5, 1, 1)]

    def forward(self, deltas: Tensor, rois: Tensor, *truth: Tensor) -> Tensor:
        with torch.no_grad():
            rows = as_rows(rois)
            moves = self.deltas.restore(as_rows(deltas)[:, None, 4:])
            boxes = region_boxes(moves, rows[:, 1:])[:, 0]
            good = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
            if self.training:
                good &= (boxes[:, 2:] >= boxes[:, :2]).all(1)
            if truth:
                good &= as_rows(truth[0])[:, -1] < self.gt_iou_thr
            if len(rows) and not good.any():
                raise DataError("no region is left after the regression.")
            return torch.cat([rows[:, :1], boxes], 1)[good][:, :, None, None]


@layer("BboxAccuracy", bottoms=3, tops=(1, 2), fork="MS-CNN", differentiable=False)
class BboxAccuracy(RegressionLayer):
    """How well regression moves regions: the mean overlap with their true boxes after it.

    Bottoms: deltas (R, 4 K), of which those of the label count (with cls_aware false, (R, 8), the
    second four); regions (R, 5) of image and corners in pixels; matched true boxes (R, 6) of label,
    corners and overlap. Regions of label 0, and those with an overlap above 0.975, do not count.
    Tops: the mean overlap after regression (1, 1, 1, 1); optionally that before. -1 if no region
    counts. No gradient. Message: bbox_reg_param. Cai et al., 2016 (MS-CNN).

    Errors: counts that do not fit.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        self.deltas = self.scale_of_deltas()

    def top_shapes(self, deltas: Shape, rois: Shape, truth: Shape) -> list[Shape]:
        check_rows("regions", rois, 5)
        check_rows("true boxes", truth, 6)
        check_as_many(deltas, rois, truth)
        width = prod(deltas[1:])
        if width % 4 or (not self.cls_aware and width != 8):
            raise NetError(f"deltas are rows of 4 for each class, got shape {shape_text(deltas)}.")
        return [(1, 1, 1, 1)] * self.top_count

    def forward(self, deltas: Tensor, rois: Tensor, truth: Tensor) -> list[Tensor]:
        with torch.no_grad():
            true = as_rows(truth)
            counted = (true[:, 0] > 0) & ~(true[:, 5] > 0.975)
            rows, true = as_rows(rois)[counted][:, 1:], true[counted]
            label = true[:, 0].long()
            label = label if self.cls_aware else label.clamp(max=1)
            moves = as_rows(deltas)[counted].view(len(true), prod(deltas.shape[1:]) // 4, 4)
            if len(label) and int(label.max()) >= moves.shape[1]:
                raise DataError(f"label {int(label.max())} has no deltas among {moves.shape[1]}.")
            mine = moves[torch.arange(len(label), device=label.device), label]
            after = region_boxes(self.deltas.restore(mine)[:, None], rows)[:, 0]
            found = []
            for boxes in (after, rows)[: self.top_count]:
                shared = pairwise(boxes, true[:, 1:5])
                mean = shared.mean() if len(shared) else shared.new_tensor(-1.0)
                found.append(mean.view(1, 1, 1, 1))
            return found


def pairwise(boxes: Tensor, truth: Tensor) -> Tensor:
    """Overlap (R,) of each box (R, 4) in pixels with the true box of its row."""
    return overlap(boxes[:, None], truth[:, None], extra=1).flatten()


@layer(
    "ScaleRoute",
    bottoms=(1, None),
    tops=(1, None),
    one_top_each=True,
    fork="Cascade R-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class ScaleRoute(Layer):
    """Keeps the regions of one range of sizes: low_scale <= sqrt(area) < high_scale, in pixels.

    Bottoms: regions (R, 5) of image and corners; any blobs (R, ...). Tops: their rows that stay,
    (K, ...). If none is in the range, the one nearest to its middle stays, which is measured by
    the logarithm; the middle is sqrt(low high), or the only limit given, or 256. No gradient.
    Message: scale_route_param. Cai and Vasconcelos, 2018.

    Errors: blobs of different numbers of rows; a range that is empty.
    """

    low_scale: float | None = option(positive)
    high_scale: float | None = option(positive)

    def setup(self, *bottom_shapes: Shape) -> None:
        self.low, self.high = self.low_scale or 0.0, self.high_scale or inf
        if self.high < self.low:
            raise NetError(f"high_scale {self.high:g} is less than low_scale {self.low:g}.")
        limits = [limit for limit in (self.low_scale, self.high_scale) if limit]
        self.middle = prod(limits) ** (1 / len(limits)) if limits else 256.0

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        check_rows("regions", bottom_shapes[0], 5)
        check_as_many(*bottom_shapes)
        return list(bottom_shapes)

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        boxes = as_rows(bottoms[0].detach())[:, 1:]
        sides = (boxes[:, 2:] - boxes[:, :2] + 1).clamp(min=0)
        scale = (sides[:, 0] * sides[:, 1]).sqrt()
        kept = ((scale >= self.low) & (scale < self.high)).nonzero()[:, 0]
        if not len(kept) and len(scale):
            kept = (scale.log2() - log2(self.middle)).abs().argmin()[None]
        return [bottom.detach().index_select(0, kept) for bottom in bottoms]


@layer(
    "HardMining",
    bottoms=(2, None),
    tops=(1, None),
    fork="Cascade R-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class HardMining(Layer):
    """Keeps the regions of each image with the highest scores, such as losses.

    Bottoms: the score of each region, R values; regions (R, 5), whose first value is the image;
    any blobs (R, ...). Tops: the rows that stay of all bottoms but the first, in their old order:
    num_roi_per_image of each image, and if an image has fewer, the best of the others, up to
    num_image num_roi_per_image. Of equal scores the last is the best. No gradient. Message:
    hard_mining_param.

    Errors: another number of tops; blobs of different numbers of rows; an image from num_image on.
    """

    num_roi_per_image: int = option(positive)
    num_image: int = option(positive)

    def top_shapes(self, score: Shape, *blobs: Shape) -> list[Shape]:
        if len(blobs) != self.top_count:
            raise NetError(
                f"makes one top for each bottom but the first: {len(blobs)}, got {self.top_count}."
            )
        check_rows("scores", score, 1)
        check_rows("regions", blobs[0], 5)
        check_as_many(score, *blobs)
        count = min(score[0], self.num_roi_per_image * self.num_image)
        return [(count, *blob[1:]) for blob in blobs]

    def forward(self, score: Tensor, *blobs: Tensor) -> list[Tensor]:
        value, image = score.detach().flatten(), as_rows(blobs[0].detach())[:, 0]
        if ((image < 0) | (image >= self.num_image)).any():
            raise DataError(f"a region is of an image that num_image: {self.num_image} excludes.")
        count = min(len(value), self.num_roi_per_image * self.num_image)
        value, image = value.flip(0), image.flip(0)  # of equal scores the last is the best
        left_over = rank_in_group(value, image) >= self.num_roi_per_image
        kept = (len(value) - 1 - order_of(value, left_over)[:count]).sort()[0]
        return [blob.detach().index_select(0, kept) for blob in blobs]


def order_of(value: Tensor, later: Tensor) -> Tensor:
    """Indices (R,) by falling value, those marked as later behind all others."""
    order = value.argsort(descending=True, stable=True)
    return order[later[order].int().argsort(stable=True)]
