"""The layer that turns scores and moves of anchors into regions."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.anchors import Choice, base_anchors, grid_anchors, propose
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.types import Shape


def check_score_maps(scores: Shape, deltas: Shape, im_info: Shape, anchors: int) -> None:
    """Raises NetError unless the bottoms of a proposal layer fit the number of anchors."""
    if len(scores) != 4 or scores[1] != 2 * anchors:
        raise NetError(
            f"{anchors} anchors need scores N {2 * anchors} H W, got shape {shape_text(scores)}."
        )
    if deltas != (scores[0], 4 * anchors, *scores[2:]):
        raise NetError(
            f"{anchors} anchors need moves {scores[0]} {4 * anchors} {scores[2]} {scores[3]}, got"
            f" shape {shape_text(deltas)}."
        )
    if prod(im_info) < 3:
        raise NetError(
            f"im_info holds height, width and scale of the image, got shape {shape_text(im_info)}."
        )


def propose_for_batch(
    scores: Tensor, deltas: Tensor, im_info: Tensor, base: Tensor, stride: float, choice: Choice
) -> tuple[Tensor, Tensor]:
    """Regions (R, 5) of a batch and their scores (R,), image by image, the best of each first.

    Args:
        scores: (N, 2 A, H, W), background first.
        deltas: (N, 4 A, H, W).
        im_info: (N or 1, 3 or more).
        base: anchors of the first cell, (A, 4).
    """
    n, _, height, width = scores.shape
    with torch.no_grad():
        anchors = grid_anchors(base.to(scores), height, width, stride)
        facts: list[list[float]] = im_info.reshape(-1, im_info.shape[-1]).tolist()
        rois, found = [scores.new_zeros(0, 5)], [scores.new_zeros(0)]
        for index in range(n):
            info: Sequence[float] = facts[min(index, len(facts) - 1)]
            boxes, best = propose(scores[index, len(base) :], deltas[index], anchors, info, choice)
            rois.append(torch.cat([torch.full_like(boxes[:, :1], index), boxes], 1))
            found.append(best)
        return torch.cat(rois), torch.cat(found)


@layer(
    "Proposal",
    bottoms=3,
    tops=(1, 2),
    fork="Faster R-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class Proposal(Layer):
    """Regions that may hold an object, from the scores and moves of anchors.

    Anchors of base_size, enlarged by each `scale` and given each `ratio` (height / width), lie
    feat_stride pixels apart. Each is moved and resized by its deltas and cut to the image; its
    score is 0 if it is then less than min_size times the image's scale high or wide. Of the
    pre_nms_topn best, those are dropped that overlap a better one by more than nms_thresh, and
    the post_nms_topn best stay.

    Bottoms: scores (N, 2 A, H, W) after a softmax, the second A are of "an object"; deltas
    (N, 4 A, H, W); im_info, height, width in pixels and scale of the image (or its scales down
    and across), one row for all images or one for each. A = ratios x scales, the scales of one
    ratio after each other. Tops: regions (R, 5) of image index and corners x1, y1, x2, y2 in
    pixels; optionally their scores (R,). A proposal with a NaN is dropped. No gradient.
    Message: proposal_param; without ratios and scales 0.5, 1, 2 and 8, 16, 32. OpenVINO's fields:
    clip_before_nms, clip_after_nms: when boxes are cut to the image; normalize: corners as
    fractions of its width and height; box_coordinate_scale and box_size_scale divide the deltas
    of the center and of the size. Ren et al., 2015 (Faster R-CNN).

    Errors: counts that do not fit the anchors; im_info of less than three values; a `framework`
    and for_deformable, whose other anchors are not read.
    """

    feat_stride: int = option(positive)
    base_size: int = option(positive)
    min_size: int = option(not_negative)
    ratio: tuple[float, ...] = option(positive)
    scale: tuple[float, ...] = option(positive)
    pre_nms_topn: int = option(not_negative)
    post_nms_topn: int = option(not_negative)
    nms_thresh: float = option(not_negative)
    for_deformable: bool = option()
    clip_before_nms: bool = option()
    clip_after_nms: bool = option()
    normalize: bool = option()
    box_size_scale: float = option(positive)
    box_coordinate_scale: float = option(positive)
    framework: str | None = option()

    def setup(self, *bottom_shapes: Shape) -> None:
        if self.framework:
            raise NetError(f'framework: "{self.framework}": only Caffe\'s anchors are known.')
        if self.for_deformable:
            raise NetError("for_deformable: true: only Caffe's anchors are known.")
        self.base = base_anchors(self.base_size, self.ratio, self.scale, half_up=True)
        self.choice = Choice(
            self.min_size,
            self.pre_nms_topn,
            self.post_nms_topn,
            self.nms_thresh,
            self.clip_before_nms,
            self.clip_after_nms,
            keep_small=True,
        )

    def top_shapes(self, scores: Shape, deltas: Shape, im_info: Shape) -> list[Shape]:
        check_score_maps(scores, deltas, im_info, len(self.base))
        count = min(1, scores[0])
        return [(count, 5), (count,)][: self.top_count]

    def forward(self, scores: Tensor, deltas: Tensor, im_info: Tensor) -> list[Tensor]:
        if self.box_coordinate_scale != 1 or self.box_size_scale != 1:
            by = deltas.new_tensor([self.box_coordinate_scale, self.box_size_scale])
            each = by.repeat_interleave(2).repeat(len(self.base))
            deltas = deltas / each[:, None, None]
        rois, found = propose_for_batch(
            scores, deltas, im_info, self.base, self.feat_stride, self.choice
        )
        if self.normalize:
            facts = im_info.reshape(-1, im_info.shape[-1])
            facts = facts.expand(len(scores), -1) if len(facts) == 1 else facts
            size = facts[rois[:, 0].long()][:, [1, 0, 1, 0]]
            rois = torch.cat([rois[:, :1], rois[:, 1:] / size], 1)
        return [rois, found][: self.top_count]
