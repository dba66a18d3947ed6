"""SSD's loss: matched prior boxes learn offsets and labels, hard ones among the rest background."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.detection.boxes import decode_boxes, encode_boxes
from moka.layers.detection.detect import split_priors
from moka.layers.detection.match import NOTHING, match_boxes, outside
from moka.layers.detection.nms import kept_of
from moka.layers.detection.output import check_more_of_priors, check_prior_blobs
from moka.layers.detection.truth import Truth, check_truth_blob, read_truth
from moka.layers.gradient import with_gradient_of
from moka.layers.loss.normalization import NormalizedLoss
from moka.layers.loss.smooth_l1 import smooth_l1
from moka.layers.loss.softmax import SMALLEST, softmax_nll
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import times
from moka.schema import caffe_pb2
from moka.types import Shape

SMALL_BOX = 1e-5  # area below which mining with suppression leaves out a box


class Matching(NamedTuple):
    """The prior boxes of one image beside the true boxes of one class (or of all).

    Attributes:
        image: its index.
        place: where in the offsets (N, P, L, 4) these boxes lie along L.
        priors: (P, 4).
        truth: the true boxes of the image.
        match: (P,) the true box of each prior box, NOTHING or IGNORED.
        shared: (P,) overlap with it.
    """

    image: int
    place: int
    priors: Tensor
    truth: Truth
    match: Tensor
    shared: Tensor

    @property
    def matched(self) -> Tensor:
        """Indices of the prior boxes that have a true box."""
        return (self.match > NOTHING).nonzero()[:, 0]


@layer("MultiBoxLoss", bottoms=(4, 6), tops=1, is_loss=True, fixed_bottoms=(2, 3, 5), fork="SSD")
class MultiBoxLoss(NormalizedLoss):
    """Loss of offsets and scores of prior boxes, given the true boxes:
    (loc_weight loc + conf) / divisor.

    Matching: each true box gets the prior box that overlaps it most; with match_type
    PER_PREDICTION also every prior box whose largest overlap reaches overlap_threshold gets its
    true box. With use_prior_for_matching false the decoded boxes are matched instead.
    ignore_cross_boundary_bbox takes no part of boxes that reach out of the image.

    loc: smooth L1 (or half the squared distance, L2) between offsets and encoded true boxes of
    matched prior boxes; bp_inside leaves out coordinates of prior boxes outside of the image. With
    encode_variance_in_target the difference is divided by the variances, not so its gradient, as in
    SSD.
    conf: softmax loss of the labels of matched prior boxes, and of the background for others
    (or, LOGISTIC, the sum of the classes' yes/no losses, in which others without mining want
    nothing from every class). Mining chooses which others count: MAX_NEGATIVE the neg_pos_ratio
    times as many as matched ones with the largest loss, of those that overlap every true box by
    less than neg_overlap; HARD_EXAMPLE the sample_size boxes of an image with the largest loss,
    matched or not; NONE all. With nms_param the top_k of largest
    loss are suppressed first (by prior boxes with use_prior_for_nms, else by decoded boxes); as in
    SSD a top_k that is not given is 0 here, which mines nothing, and -1 means all. An image without
    true boxes counts only without mining. do_neg_mining is mining_type's older form.

    Bottoms: offsets (N, 4 P), or (N, 4 P num_classes) without share_location; scores (N, P
    num_classes) before a softmax; prior boxes (1, 2, 4 P); true boxes (1, 1, G, 8), rows of image
    (-1: none), label, instance, x1, y1, x2, y2 as fractions, difficult. RefineDet adds the scores
    (N, 2 P) and the offsets (N, 4 P) of its first stage: only boxes whose second score reaches
    objectness_score are mined; the offsets move the prior boxes. With do_state_prediction (tl_ssd)
    the fifth bottom has scores (N, P num_states) of states, and a label of the true boxes is a
    number whose fifth digit is the state; all are of class 1. state_weight times the loss of the
    states of the prior boxes that conf counts, background_state_id for those without a match, is
    added (state_loss_type as conf_loss_type); its gradient is not weighted, as in the fork. The
    first two bottoms and the states take gradients.
    Top: a scalar. Messages: multibox_loss_param, loss_param: the divisor is by normalization
    VALID (default) the number of matches, FULL N P, BATCH_SIZE N, NONE 1. use_difficult_gt false
    leaves out difficult boxes; ignore_difficult_gt (NVCaffe) makes prior boxes that overlap one,
    and that no other true box has got by a larger overlap, count neither way, but without mining
    as background. map_object_to_agnostic gives all labels the one after the background. A true box
    without area matches nothing. calculate_state_loss has no effect, as in the fork. SSD's LOGISTIC
    has faults that are left out here: with a background_label_id above 0 that number is every
    target, and without mining labels count in the first image alone.

    Errors: counts that do not fit; mining without share_location; a label that is no class
    (with two classes every label from 1 on counts as 1, as in RefineDet; a warning says so); a
    state that is none. Liu et al., 2016 (SSD); Mueller and Dietmayer, 2018 (tl_ssd).
    """

    loc_loss_type: str = option()
    conf_loss_type: str = option()
    loc_weight: float = option()
    num_classes: int = option(positive, required=True)
    share_location: bool = option()
    match_type: str = option()
    overlap_threshold: float = option(not_negative)
    use_prior_for_matching: bool = option()
    background_label_id: int = option()
    use_difficult_gt: bool = option()
    do_neg_mining: bool | None = option()
    neg_pos_ratio: float = option(not_negative)
    neg_overlap: float = option(not_negative)
    code_type: str = option()
    encode_variance_in_target: bool = option()
    map_object_to_agnostic: bool = option()
    ignore_cross_boundary_bbox: bool = option()
    bp_inside: bool = option()
    mining_type: str | None = option(unset_is_none=True)
    nms_param: caffe_pb2.NonMaximumSuppressionParameter = option()
    sample_size: int = option(positive)
    use_prior_for_nms: bool = option()
    ignore_difficult_gt: bool = option()
    objectness_score: float = option()
    do_state_prediction: bool = option()
    num_states: int | None = option(positive)
    background_state_id: int = option()
    state_weight: float = option()
    state_loss_type: str = option()
    calculate_state_loss: bool = option()

    def setup(self, *bottom_shapes: Shape) -> None:
        self.mining = self.mining_type or (
            "NONE" if self.do_neg_mining is False else "MAX_NEGATIVE"
        )
        if self.do_neg_mining is not None and self.do_neg_mining == (self.mining == "NONE"):
            raise NetError(f"do_neg_mining says another thing than mining_type {self.mining}.")
        if self.mining != "NONE" and not self.share_location:
            raise NetError("negative mining needs share_location: true.")
        if self.conf_loss_type == "SOFTMAX" and self.background_label_id >= self.num_classes:
            raise NetError("background_label_id should be within [0, num_classes) for Softmax.")
        if self.map_object_to_agnostic and self.num_classes != 2:
            raise NetError(f"map_object_to_agnostic needs num_classes: 2, got {self.num_classes}.")
        nms = self.nms_param
        self.suppresses = self.config.multibox_loss_param.HasField("nms_param")
        self.suppresses &= nms.nms_threshold > 0
        given = list(self.config.propagate_down)
        self.counts = [not given or given[k] for k in (0, 1)]
        self.states = self._states(*bottom_shapes) if self.do_state_prediction else 0

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        offsets, scores, priors, truth, *first = bottom_shapes
        check_prior_blobs(offsets, scores, priors, self.num_classes, self.share_location)
        check_truth_blob(truth)
        counts = (self.states,) if self.states else (2, 4)
        check_more_of_priors(scores, priors, first, counts)
        return [()]

    def _states(self, *bottom_shapes: Shape) -> int:
        """How many states there are.

        Raises:
            NetError: bottoms or options that do not fit do_state_prediction.
        """
        if len(bottom_shapes) != 5:
            raise NetError(
                "do_state_prediction: true needs five bottoms, the last with num_states scores of"
                f" each prior box; got {len(bottom_shapes)}."
            )
        if self.num_states is None:
            raise NetError("do_state_prediction: true needs num_states.")
        if self.state_loss_type == "SOFTMAX" and self.background_state_id >= self.num_states:
            raise NetError("background_state_id should be within [0, num_states) for Softmax.")
        given = list(self.config.propagate_down)
        self.counts.append(not given or (len(given) > 4 and given[4]))
        return self.num_states

    def forward(self, *bottoms: Tensor) -> Tensor:
        n, count = len(bottoms[0]), bottoms[2].shape[2] // 4
        places = 1 if self.share_location else self.num_classes
        offsets = bottoms[0].reshape(n, count, places, 4)
        scores = bottoms[1].reshape(n, count, self.num_classes)
        boxes, given = split_priors(bottoms[2].detach())
        self.variances = given
        self.scale = None if self.encode_variance_in_target else given
        priors = boxes.expand(n, -1, -1)
        with torch.no_grad():
            if len(bottoms) > 5:
                moves = bottoms[5].reshape(n, count, 4)
                priors = decode_boxes(moves, priors, self.scale, self.code_type)
            mined = torch.ones(n, count, dtype=torch.bool, device=boxes.device)
            if len(bottoms) > 4 and not self.states:
                mined = bottoms[4].reshape(n, count, 2)[..., 1] >= self.objectness_score
            classes, background = self.num_classes, self.background_label_id
            truth = read_truth(bottoms[3], classes, background, self.states)
            matchings = self._matchings(offsets, priors, truth)
            negatives = {}
            for k, matching in enumerate(matchings):
                if self.mining != "NONE":
                    unmoved = matching._replace(priors=boxes)
                    losses = self._losses_of(unmoved, offsets, scores)
                    chosen = self._mine(unmoved, losses, mined[matching.image], offsets)
                    left, negatives[matching.image] = chosen
                    matchings[k] = matching._replace(match=left.match)
        loss = scores.new_zeros(())
        if self.counts[0]:
            loss = loss + self.loc_weight * self._location_loss(matchings, offsets)
        if self.counts[1]:
            loss = loss + self._confidence_loss(matchings, negatives, scores)
        if self.states and self.counts[2]:
            loss = loss + self._state_loss(matchings, negatives, bottoms[4])
        matches = sum(len(matching.matched) for matching in matchings)
        divide_by = self.divisor(n, count, None)
        return loss / (max(1, matches) if self.normalization_mode == "VALID" else divide_by)

    def _matchings(self, offsets: Tensor, priors: Tensor, truth: Truth) -> list[Matching]:
        """Match the boxes of each image that has true ones."""
        if not self.use_difficult_gt:
            truth = truth.of(~truth.difficult)
        found = []
        places = range(offsets.shape[2])
        for image in torch.unique(truth.image).tolist():
            if image >= len(offsets):
                break
            mine = truth.of(truth.image == image)
            by_prior = self._match(priors[image], mine) if self.use_prior_for_matching else None
            for place in places:
                if not self.share_location and place == self.background_label_id:
                    continue
                chosen = torch.ones_like(mine.difficult)
                if not self.share_location:
                    chosen = mine.label == place
                if by_prior is not None:
                    index, shared = by_prior
                    other = (index > NOTHING) & ~chosen[index.clamp(min=0)]
                    index = index.masked_fill(other, NOTHING)
                else:
                    boxes = decode_boxes(
                        offsets[image, :, place], priors[image], self.scale, self.code_type
                    )
                    index, shared = self._match(boxes, mine.of(chosen))
                    real = chosen.nonzero()[:, 0]
                    if len(real):
                        index = real[index.clamp(min=0)].where(index > NOTHING, index)
                found.append(Matching(image, place, priors[image], mine, index, shared))
        return found

    def _match(self, boxes: Tensor, truth: Truth) -> tuple[Tensor, Tensor]:
        return match_boxes(
            boxes,
            truth.boxes,
            self.overlap_threshold,
            per_prediction=self.match_type == "PER_PREDICTION",
            ignored=outside(boxes) if self.ignore_cross_boundary_bbox else None,
            hard=truth.difficult if self.ignore_difficult_gt else None,
        )

    def _wanted(self, matching: Matching, value: Tensor, background: int) -> Tensor:
        """What each prior box shall be (P,): the value of its true box, of values (G,), or the
        background without one."""
        if self.map_object_to_agnostic:
            value = torch.full_like(value, background + 1)
        matched = matching.match > NOTHING
        return value[matching.match.clamp(min=0)].where(matched, background)

    def _losses_of(self, matching: Matching, offsets: Tensor, scores: Tensor) -> Tensor:
        """The loss (P,) of each prior box; the hardest ones are chosen by it."""
        mine = scores[matching.image]
        labels = self._wanted(matching, matching.truth.label, self.background_label_id)
        if self.conf_loss_type == "SOFTMAX":
            p = mine.softmax(1).gather(1, labels[:, None])[:, 0]
            losses = -p.clamp_min(SMALLEST).log()
        else:
            wanted = one_hot(labels, self.num_classes).to(mine)
            losses = F.binary_cross_entropy_with_logits(mine, wanted, reduction="none").sum(1)
        if self.mining == "HARD_EXAMPLE":
            losses = losses.index_add(0, matching.matched, self._errors(matching, offsets).sum(1))
        return losses

    def _mine(
        self, matching: Matching, losses: Tensor, mined: Tensor, offsets: Tensor
    ) -> tuple[Matching, Tensor]:
        """The matching after mining, and the indices of the background's prior boxes."""
        unmatched = matching.match == NOTHING
        if self.mining == "MAX_NEGATIVE":
            open_ = unmatched & (matching.shared < self.neg_overlap) & mined
            count = times(len(matching.matched), self.neg_pos_ratio)
        else:
            open_, count = mined, self.sample_size
        place = open_.nonzero()[:, 0]
        place = place[losses[place].argsort(descending=True, stable=True)]
        if self.suppresses:
            boxes = matching.priors
            if not self.use_prior_for_nms:
                moves = offsets[matching.image, :, matching.place]
                boxes = decode_boxes(moves, matching.priors, self.scale, self.code_type)
            place = self._suppressed(place, boxes)
        chosen = torch.zeros_like(unmatched)
        chosen[place[:count]] = True
        if self.mining == "HARD_EXAMPLE":
            lost = (matching.match > NOTHING) & ~chosen
            matching = matching._replace(match=matching.match.masked_fill(lost, NOTHING))
        return matching, (unmatched & chosen).nonzero()[:, 0]

    def _suppressed(self, place: Tensor, boxes: Tensor) -> Tensor:
        """The indices in `place` (the largest loss first) whose boxes stay after suppression."""
        if self.nms_param.top_k >= 0:
            place = place[: self.nms_param.top_k]
        size = (boxes[place, 2:] - boxes[place, :2]).clamp(min=0).prod(1)
        place = place[size >= SMALL_BOX]
        return place[kept_of(boxes[place], self.nms_param.nms_threshold)]

    def _errors(self, matching: Matching, offsets: Tensor) -> Tensor:
        """The regression errors (M, 4) of the matched boxes of an image."""
        rows = matching.matched
        priors, variances = matching.priors[rows], self.variances[rows]
        boxes = matching.truth.boxes[matching.match[rows]]
        scale = None if self.scale is None else variances
        wanted = encode_boxes(boxes, priors, scale, self.code_type)
        mine = offsets[matching.image, rows, matching.place]
        errors = mine - wanted
        if self.encode_variance_in_target:
            errors = with_gradient_of(errors / variances, errors)
        if self.bp_inside:
            seen = priors
            if not self.use_prior_for_matching:
                seen = decode_boxes(mine.detach(), priors, scale, self.code_type)
            errors = errors.where((seen >= 0) & (seen <= 1), 0)
        return 0.5 * errors.square() if self.loc_loss_type == "L2" else smooth_l1(errors)

    def _location_loss(self, matchings: list[Matching], offsets: Tensor) -> Tensor:
        parts = [self._errors(matching, offsets).sum() for matching in matchings]
        return torch.stack(parts).sum() if parts else offsets[:0].sum()

    def _confidence_loss(
        self, matchings: list[Matching], negatives: dict[int, Tensor], scores: Tensor
    ) -> Tensor:
        wanted = [m.truth.label for m in matchings], self.background_label_id
        return self._loss_of(self.conf_loss_type, scores, matchings, negatives, *wanted)

    def _state_loss(
        self, matchings: list[Matching], negatives: dict[int, Tensor], values: Tensor
    ) -> Tensor:
        """state_weight times the loss of the states; the gradient knows no weight."""
        scores = values.reshape(len(values), prod(values.shape[1:]) // self.states, self.states)
        wanted = [m.truth.state for m in matchings], self.background_state_id
        loss = self._loss_of(self.state_loss_type, scores, matchings, negatives, *wanted)
        return with_gradient_of(self.state_weight * loss, loss)

    def _loss_of(
        self,
        kind: str,
        scores: Tensor,
        matchings: list[Matching],
        negatives: dict[int, Tensor],
        values: list[Tensor],
        background: int,
    ) -> Tensor:
        """The sum of the losses of the scores (N, P, C) that count.

        Args:
            kind: SOFTMAX or LOGISTIC.
            values: for each matching what its true boxes are, (G,).
            background: what a prior box without a true box is.
        """
        n, count, classes = scores.shape
        if self.mining == "NONE":
            labels = torch.full((n, count), background, device=scores.device)
            several = torch.zeros_like(scores)  # a prior box may have a true box of each class
            for matching, value in zip(matchings, values, strict=True):
                rows = matching.matched
                found = self._wanted(matching, value, background)[rows]
                labels[matching.image, rows] = found
                several[matching.image, rows, found] = 1
            if kind == "LOGISTIC":
                return F.binary_cross_entropy_with_logits(scores, several, reduction="sum")
            return sum_of_losses(kind, scores.reshape(-1, classes), labels.flatten())
        counted = [scores[0:0].reshape(-1, classes)]
        labels_of_rows = [torch.zeros(0, dtype=torch.long, device=scores.device)]
        for matching, value in zip(matchings, values, strict=True):
            chosen = torch.cat([matching.matched, negatives[matching.image]])
            counted.append(scores[matching.image, chosen])
            labels_of_rows.append(self._wanted(matching, value, background)[chosen])
        return sum_of_losses(kind, torch.cat(counted), torch.cat(labels_of_rows))


def sum_of_losses(kind: str, scores: Tensor, labels: Tensor) -> Tensor:
    """The sum of the losses, SOFTMAX or LOGISTIC, of scores (K, C) for labels (K,)."""
    if kind == "SOFTMAX":
        return softmax_nll(scores[:, :, None], labels[:, None, None])
    wanted = one_hot(labels, scores.shape[1]).to(scores)
    return F.binary_cross_entropy_with_logits(scores, wanted, reduction="sum")


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """(K, C), 1 in the place of each label (K,); nowhere for one that is no class."""
    places = torch.arange(classes, device=labels.device)
    return (labels[:, None] == places).long()
