"""Which regions a stage of MS-CNN or Cascade R-CNN is trained on, and what it shall say of them."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.detection.boxes import deltas_between, overlap
from moka.layers.detection.ranks import shuffled
from moka.layers.detection.regression import RegressionLayer
from moka.layers.detection.stages import check_rows
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import as_rows
from moka.types import Shape


class Drawn(NamedTuple):
    """Regions that were drawn to train on, the positive ones first.

    Attributes:
        rois: (K, 5) of image and corners in pixels.
        truth: (K,) the true box of each, -1 if its image has none.
        shared: (K,) the overlap with it.
        positives: how many are positive.
    """

    rois: Tensor
    truth: Tensor
    shared: Tensor
    positives: int


@layer(
    "ProposalTarget",
    bottoms=2,
    tops=(6, 7),
    fork="MS-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class ProposalTarget(RegressionLayer):
    """Regions to train on, drawn from proposals and true boxes, with labels and deltas.

    A region with an overlap of fg_thr or more with a true box of its image is positive, unless
    that box is to be ignored; from bg_thr_lw to below bg_thr_hg it is background. fg_fraction of
    batch_size positive ones are drawn, background fills up, then (pickup_discard) other regions
    in their order. batch_size -1 takes all. With true boxes of 7 values (MS-CNN) random background
    boxes fill the batch; else one is made only if there is no region at all.

    Bottoms: regions (R, 5) of image and corners in pixels; true boxes (G, 7 or 8), rows of image
    (-1: none), corners, label, ignored. The true boxes are regions too, unless append_gtbox is
    false. Tops, each with K rows: regions (K, 5, 1, 1); labels (K, 1, 1, 1), 0 for background;
    deltas (K, D, 1, 1), stored, in the place of the label (D = 4 cls_num; with cls_aware false 8,
    and the second place); inside and outside weights, 1 in that place if the overlap lies from
    bbox_thr_lw to bbox_thr_hg; matched true boxes (K, 6, 1, 1) of label, corners and overlap, 0
    for background; optionally weights (K, 1, 1, 1) that give positive regions fg_fraction of the
    whole (iou_weighted: by their overlap). No gradient. Messages: proposal_target_param,
    bbox_reg_param. Cai et al., 2016; Cai and Vasconcelos, 2018.

    Errors: counts that do not fit; an image from num_img_per_batch on; a true box of label 0.
    """

    cls_num: int | None = option(positive)
    batch_size: int = option()
    fg_fraction: float = option()
    num_img_per_batch: int = option(positive)
    fg_thr: float = option()
    bg_thr_hg: float = option()
    bg_thr_lw: float = option()
    img_width: int | None = option(positive)
    img_height: int | None = option(positive)
    iou_weighted: bool = option()
    bbox_thr_lw: float = option()
    bbox_thr_hg: float = option()
    pickup_discard: bool = option()
    append_gtbox: bool = option()

    def setup(self, rois: Shape, truth: Shape) -> None:
        self.deltas = self.scale_of_deltas()
        if self.batch_size < 1 and self.batch_size != -1:
            raise NetError(f"batch_size must be > 0, or -1 for all, got {self.batch_size}.")
        if self.fg_thr < self.bg_thr_hg:
            raise NetError(f"fg_thr {self.fg_thr:g} is less than bg_thr_hg {self.bg_thr_hg:g}.")
        if self.cls_aware and self.cls_num is None:
            raise NetError("cls_num is missing.")
        self.places = (self.cls_num or 2) if self.cls_aware else 2
        self.fills_up = prod(truth[1:]) == 7  # MS-CNN

    def top_shapes(self, rois: Shape, truth: Shape) -> list[Shape]:
        check_rows("regions", rois, 5)
        check_rows("true boxes", truth, 7, 8)
        count = self.batch_size if self.batch_size > 0 else max(1, rois[0])
        widths = (5, 1, *[4 * self.places] * 3, 6, 1)
        return [(count, width, 1, 1) for width in widths[: self.top_count]]

    def forward(self, rois: Tensor, truth: Tensor) -> list[Tensor]:
        with torch.no_grad():
            regions, true = as_rows(rois), as_rows(truth)
            true = true[true[:, 0] != -1]
            if self.append_gtbox:
                regions = torch.cat([regions, true[:, :5]])
            for rows in (regions, true):
                if ((rows[:, 0] < 0) | (rows[:, 0] >= self.num_img_per_batch)).any():
                    raise DataError(
                        f"a box is of an image that num_img_per_batch: {self.num_img_per_batch}"
                        " excludes."
                    )
            tops = self._described(self._draw(regions, true), true)
            return [top[:, :, None, None].contiguous() for top in tops[: self.top_count]]

    def _draw(self, regions: Tensor, true: Tensor) -> Drawn:
        most = regions.new_zeros(len(regions))
        nearest = torch.full((len(regions),), -1, device=regions.device)
        if len(true):
            shared = overlap(regions[:, 1:5], true[:, 1:5], extra=1)
            shared = shared.masked_fill(regions[:, :1] != true[:, 0], -1)
            best, index = shared.max(1)
            most, nearest = best.clamp(min=0), index.where(best >= 0, -1)
        positive = (most >= self.fg_thr) & (nearest >= 0)
        if len(true) and (true[nearest[positive], 5] <= 0).any():
            raise DataError("a true box has label 0 or less.")
        ignored = positive & (true[nearest.clamp(min=0), 6] != 0) if len(true) else positive
        background = ~positive & (most >= self.bg_thr_lw) & (most < self.bg_thr_hg)
        fg, bg = (mask.nonzero()[:, 0] for mask in (positive & ~ignored, background))
        size = len(fg) + len(bg) if self.batch_size == -1 else self.batch_size
        wanted = len(fg) if self.batch_size == -1 else int(self.fg_fraction * size + 0.5)
        fg = shuffled(fg, wanted)
        room = size - len(fg)
        if len(bg) > room:
            bg = shuffled(bg, room)
        elif self.pickup_discard:
            rest = (~positive & ~background).nonzero()[:, 0]
            bg = torch.cat([bg, rest[: room - len(bg)]])
        kept = torch.cat([fg, bg])
        found = Drawn(regions[kept], nearest[kept], most[kept], len(fg))
        missing = size - len(kept) if self.fills_up else int(not len(kept))
        return self._with_random_boxes(found, max(0, missing), true)

    def _with_random_boxes(self, drawn: Drawn, count: int, true: Tensor) -> Drawn:
        """Add background boxes of random place and size that overlap no true box much."""
        width, height = self.img_width or 0, self.img_height or 0
        if count and min(width, height) <= 32:
            raise NetError("too few regions: random ones need img_width and img_height above 32.")
        made: list[Tensor] = []
        while len(made) < count:
            image = int(torch.randint(self.num_img_per_batch, ()))
            x, y = int(torch.randint(width - 32, ())), int(torch.randint(height - 32, ()))
            w = max(32, int(torch.randint(width - x, ())))
            h = max(32, int(torch.randint(height - y, ())))
            box = drawn.rois.new_tensor([image, x, y, x + w - 1, y + h - 1])
            mine = true[true[:, 0] == image, 1:5]
            if not len(mine) or overlap(box[None, 1:], mine, extra=1).max() < self.fg_thr:
                made.append(box)
        if not made:
            return drawn
        none = drawn.truth.new_full((count,), -1)
        rois = torch.cat([drawn.rois, torch.stack(made)])
        shared = torch.cat([drawn.shared, drawn.shared.new_zeros(count)])
        return Drawn(rois, torch.cat([drawn.truth, none]), shared, drawn.positives)

    def _described(self, drawn: Drawn, true: Tensor) -> list[Tensor]:
        """Rows of all seven tops."""
        k, count = drawn.positives, len(drawn.rois)
        mine = true[drawn.truth[:k]]
        labels = drawn.rois.new_zeros(count)
        labels[:k] = mine[:, 5]
        place = labels[:k].long() if self.cls_aware else torch.ones_like(labels[:k]).long()
        if k and int(place.max()) >= self.places:
            raise DataError(f"label {int(place.max())} is outside of the {self.places} classes.")
        moves = self.deltas.store(deltas_between(drawn.rois[:k, 1:], mine[:, 1:5]))
        row = torch.arange(k, device=labels.device)
        targets = labels.new_zeros(count, self.places, 4)
        targets[row, place] = moves
        shared = drawn.shared[:k]
        counted = (shared >= self.bbox_thr_lw) & (shared <= self.bbox_thr_hg)
        weights = torch.zeros_like(targets)
        weights[row, place] = counted[:, None].to(weights.dtype).expand(-1, 4)
        matched = labels.new_zeros(count, 6)
        matched[:k] = torch.cat([mine[:, 5:6], mine[:, 1:5], shared[:, None]], 1)
        flat = weights.flatten(1)
        samples = self._sample_weights(drawn, labels)
        return [
            drawn.rois, labels[:, None], targets.flatten(1), flat, flat, matched, samples[:, None]
        ]  # fmt: skip

    def _sample_weights(self, drawn: Drawn, labels: Tensor) -> Tensor:
        """Weights (K,) that give positive regions together fg_fraction of K, others the rest."""
        k, count = drawn.positives, len(labels)
        weights = torch.ones_like(labels)
        if self.iou_weighted:
            weights[:k] = drawn.shared[:k]
        total = weights[:k].sum()
        if k and total != 0:
            weights[:k] *= self.fg_fraction * count / total
            if count > k:
                weights[k:] *= (1 - self.fg_fraction) * count / weights[k:].sum()
        return weights
