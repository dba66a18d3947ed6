"""The Python layers of py-faster-rcnn and py-R-FCN, so that their nets run without that code.

A prototxt names them by module and class, such as rpn.proposal_layer and ProposalLayer; a module
of that name on the user's path comes before the class here. What that code keeps in its
configuration has the values of its config.py here; an entry of `param_str` with the name of the
setting, such as 'RPN_MIN_SIZE': 8, changes it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.detection.anchors import RATIOS, SCALES, Choice, base_anchors, grid_anchors
from moka.layers.detection.boxes import deltas_between, overlap
from moka.layers.detection.param_str import parse_param_str
from moka.layers.detection.proposal import check_score_maps, propose_for_batch
from moka.layers.python import TensorLayer, built_in
from moka.layers.shapes import shape_text
from moka.types import Shape

# py-faster-rcnn's cfg.TRAIN and cfg.TEST, as far as these layers read them.
TRAIN: dict[str, Any] = {
    "RPN_PRE_NMS_TOP_N": 12000,
    "RPN_POST_NMS_TOP_N": 2000,
    "RPN_NMS_THRESH": 0.7,
    "RPN_MIN_SIZE": 16,
    "RPN_POSITIVE_OVERLAP": 0.7,
    "RPN_NEGATIVE_OVERLAP": 0.3,
    "RPN_CLOBBER_POSITIVES": False,
    "RPN_FG_FRACTION": 0.5,
    "RPN_BATCHSIZE": 256,
    "RPN_BBOX_INSIDE_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
    "RPN_POSITIVE_WEIGHT": -1.0,
    "BATCH_SIZE": 128,
    "FG_FRACTION": 0.25,
    "FG_THRESH": 0.5,
    "BG_THRESH_HI": 0.5,
    "BG_THRESH_LO": 0.1,
    "BBOX_INSIDE_WEIGHTS": (1.0, 1.0, 1.0, 1.0),
    "BBOX_NORMALIZE_TARGETS_PRECOMPUTED": False,
    "BBOX_NORMALIZE_MEANS": (0.0, 0.0, 0.0, 0.0),
    "BBOX_NORMALIZE_STDS": (0.1, 0.1, 0.2, 0.2),
}
TEST = TRAIN | {"RPN_PRE_NMS_TOP_N": 6000, "RPN_POST_NMS_TOP_N": 300}


class _RcnnLayer(TensorLayer):
    """Base of these layers: `param_str`, settings, anchors."""

    def setup(self, *bottom_shapes: Shape) -> None:
        self.given = parse_param_str(self.param_str)
        self.settings = dict(TRAIN if self.training else TEST)
        self.settings |= {k: v for k, v in self.given.items() if k in self.settings}

    def anchors(self) -> Tensor:
        """Anchors of the first cell (A, 4), from the entries scales and ratios."""
        scales, ratios = self.given.get("scales", SCALES), self.given.get("ratios", RATIOS)
        return base_anchors(16, list(ratios), list(scales))

    def required(self, key: str) -> Any:
        """An entry of `param_str` that has to be there.

        Raises:
            NetError: it is not.
        """
        if key not in self.given:
            raise NetError(f"param_str has no '{key}'.", advice=f"Add \"'{key}': ...\" to it.")
        return self.given[key]


def _one_image(count: int) -> None:
    if count != 1:
        raise NetError(f"only single item batches are supported, got {count} images.")


def _some_of(index: Tensor, count: int) -> Tensor:
    """`count` of the indices (K,), drawn without replacement; all if there are fewer."""
    drawn = torch.randperm(len(index))[: max(0, count)]
    return index[drawn.to(index.device)]


@built_in("rpn.proposal_layer")
class ProposalLayer(_RcnnLayer):
    """Proposals from the scores and moves of anchors (see the layer type Proposal).

    Bottoms: scores (1, 2 A, H, W), deltas (1, 4 A, H, W), im_info (1, 3). Tops: regions (R, 5);
    optionally their scores (R, 1). param_str: feat_stride; scales and ratios, 8, 16, 32 and 0.5,
    1, 2 without. Settings: RPN_PRE_NMS_TOP_N, RPN_POST_NMS_TOP_N (12000 and 2000 in TRAIN, 6000
    and 300 in TEST), RPN_NMS_THRESH (0.7), RPN_MIN_SIZE (16).
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        super().setup(*bottom_shapes)
        self.stride = float(self.required("feat_stride"))
        self.base = self.anchors()
        names = ("RPN_MIN_SIZE", "RPN_PRE_NMS_TOP_N", "RPN_POST_NMS_TOP_N", "RPN_NMS_THRESH")
        self.choice = Choice(*(self.settings[name] for name in names))

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        scores, deltas, im_info = bottom_shapes
        _one_image(scores[0])
        check_score_maps(scores, deltas, im_info, len(self.base))
        shapes: list[Shape] = [(1, 5), (1, 1)]
        return shapes[: self.top_count]

    def forward(self, scores: Tensor, deltas: Tensor, im_info: Tensor) -> list[Tensor]:
        rois, best = propose_for_batch(scores, deltas, im_info, self.base, self.stride, self.choice)
        return [rois, best[:, None]][: self.top_count]


@built_in("rpn.anchor_target_layer")
class AnchorTargetLayer(_RcnnLayer):
    """The targets of the region proposal net: which anchors are objects, and how to move them.

    Of the anchors inside of the image, those are positive that have the largest overlap with a
    box, or one of 0.7 or more; those with less than 0.3 with any box are negative; the rest does
    not count. At most half of 256 are positive, negatives fill up; which ones is drawn by chance.

    Bottoms: scores (1, 2 A, H, W), of which the shape counts; boxes (G, 5) of corners x1, y1, x2,
    y2 and label; im_info (1, 3); the image, which is not read. Tops: labels (1, 1, A H, W), 1, 0,
    or -1 for ones that do not count; deltas to the nearest box (1, 4 A, H, W); inside weights, 1
    for positive anchors; outside weights, 1 / the number that counts for those that count.
    param_str: feat_stride; allowed_border (0) in pixels; scales and ratios.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        super().setup(*bottom_shapes)
        self.stride = float(self.required("feat_stride"))
        self.border = float(self.given.get("allowed_border", 0))
        self.base = self.anchors()

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        scores, boxes = bottom_shapes[:2]
        _one_image(scores[0])
        if len(boxes) != 2 or boxes[1] != 5:
            raise NetError(f"boxes are a blob G 5, got shape {shape_text(boxes)}.")
        a, (height, width) = len(self.base), scores[2:]
        return [(1, 1, a * height, width), *[(1, 4 * a, height, width)] * 3]

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        scores, boxes, im_info = (bottom.detach() for bottom in bottoms[:3])
        height, width = scores.shape[2:]
        anchors = grid_anchors(self.base.to(scores), height, width, self.stride).flatten(0, 2)
        image_height, image_width = im_info.flatten()[:2].tolist()
        border = self.border
        inside = (anchors[:, :2] >= -border).all(1)
        inside &= (anchors[:, 2] < image_width + border) & (anchors[:, 3] < image_height + border)
        labels, nearest = self._judged(anchors[inside], boxes)
        targets = anchors.new_zeros(len(labels), 4)
        if len(boxes):
            targets = deltas_between(anchors[inside], boxes[nearest, :4])
        within = targets.new_zeros(targets.shape)
        within[labels == 1] = targets.new_tensor(self.settings["RPN_BBOX_INSIDE_WEIGHTS"])
        outside = self._outside_weights(labels)[:, None].expand_as(targets)

        def on_grid(values: Tensor, fill: float) -> Tensor:
            """Values of the anchors inside, back in the place of each among all."""
            every = values.new_full((len(anchors), *values.shape[1:]), fill)
            every[inside] = values
            return every.view(height, width, -1).permute(2, 0, 1)

        return [
            on_grid(labels, -1).reshape(1, 1, -1, width),
            *(on_grid(values, 0)[None].contiguous() for values in (targets, within, outside)),
        ]

    def _judged(self, anchors: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Labels (K,), 1, 0 or -1, of anchors, and the nearest box of each."""
        settings = self.settings
        labels = anchors.new_full((len(anchors),), -1.0)
        if not len(boxes) or not len(anchors):
            labels[:] = 0
            nearest = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
        else:
            shared = overlap(anchors, boxes[:, :4], extra=1)
            most, nearest = shared.max(1)
            far = most < settings["RPN_NEGATIVE_OVERLAP"]
            if not settings["RPN_CLOBBER_POSITIVES"]:
                labels[far] = 0
            labels[(shared == shared.amax(0)).any(1)] = 1
            labels[most >= settings["RPN_POSITIVE_OVERLAP"]] = 1
            if settings["RPN_CLOBBER_POSITIVES"]:
                labels[far] = 0
        batch = settings["RPN_BATCHSIZE"]
        for label, most_of_it in ((1, int(settings["RPN_FG_FRACTION"] * batch)), (0, None)):
            found = (labels == label).nonzero()[:, 0]
            room = batch - int((labels == 1).sum()) if most_of_it is None else most_of_it
            if len(found) > room:
                labels[_some_of(found, len(found) - room)] = -1
        return labels, nearest

    def _outside_weights(self, labels: Tensor) -> Tensor:
        """The weight (K,) of each anchor in the regression loss."""
        share = self.settings["RPN_POSITIVE_WEIGHT"]
        positive, negative = labels == 1, labels == 0
        if share < 0:
            each = 1 / max(1, int((labels >= 0).sum()))
            return (labels >= 0).to(labels.dtype) * each
        weights = positive * (share / max(1, int(positive.sum())))
        return (weights + negative * ((1 - share) / max(1, int(negative.sum())))).to(labels.dtype)


@built_in("rpn.proposal_target_layer")
class ProposalTargetLayer(_RcnnLayer):
    """Regions to train on, drawn from proposals and true boxes, with labels and deltas.

    Regions with an overlap of 0.5 or more with a box carry its label, up to a quarter of 128;
    such with an overlap from 0.1 to below 0.5 are background and fill up; which is by chance.

    Bottoms: regions (R, 5) of image 0; boxes (G, 5) of corners x1, y1, x2, y2 and label. Tops: the
    regions drawn (K, 5); labels (K,); deltas to their box (K, 4 num_classes), in the place of
    their label and 0 elsewhere; inside weights, 1 in that place; outside weights, 1 where the
    inside weights are positive. With num_classes 2 every label uses the second place (py-R-FCN
    regresses without classes). param_str: num_classes.
    """

    def setup(self, *bottom_shapes: Shape) -> None:
        super().setup(*bottom_shapes)
        self.classes = int(self.required("num_classes"))

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        rois, boxes = bottom_shapes
        for shape, what in ((rois, "regions are a blob R 5"), (boxes, "boxes are a blob G 5")):
            if len(shape) < 2 or shape[1] != 5:
                raise NetError(f"{what}, got shape {shape_text(shape)}.")
        wide = (1, 4 * self.classes)
        return [(1, 5), (1,), wide, wide, wide]

    def forward(self, rois: Tensor, boxes: Tensor) -> list[Tensor]:
        rois, boxes = rois.detach().reshape(-1, 5), boxes.detach().reshape(-1, 5)
        if (rois[:, 0] != 0).any():
            raise DataError("only single item batches are supported: all regions are of image 0.")
        zeros = boxes.new_zeros(len(boxes), 1)
        rois = torch.cat([rois, torch.cat([zeros, boxes[:, :4]], 1)])
        most, nearest = rois.new_zeros(len(rois)), torch.zeros_like(rois[:, 0], dtype=torch.long)
        if len(boxes):
            most, nearest = overlap(rois[:, 1:], boxes[:, :4], extra=1).max(1)
        kept, positives = self._sample_regions(most)
        rois, nearest = rois[kept], nearest[kept]
        labels = rois.new_zeros(len(kept))
        moves = rois.new_zeros(len(kept), 4)
        if len(boxes):
            labels[:positives] = boxes[nearest[:positives], 4]
            moves = deltas_between(rois[:, 1:], boxes[nearest, :4])
        if self.settings["BBOX_NORMALIZE_TARGETS_PRECOMPUTED"]:
            mean = moves.new_tensor(self.settings["BBOX_NORMALIZE_MEANS"])
            moves = (moves - mean) / moves.new_tensor(self.settings["BBOX_NORMALIZE_STDS"])
        targets, within = self._by_class(labels, moves)
        return [rois, labels, targets, within, (within > 0).to(within.dtype)]

    def _sample_regions(self, most: Tensor) -> tuple[Tensor, int]:
        """Indices of the regions to train on, positives first, and the number of positives."""
        settings = self.settings
        size = settings["BATCH_SIZE"]
        positive = (most >= settings["FG_THRESH"]).nonzero()[:, 0]
        negative = (most < settings["BG_THRESH_HI"]) & (most >= settings["BG_THRESH_LO"])
        if size < 0:  # py-R-FCN: all of them
            background = negative.nonzero()[:, 0]
            return torch.cat([positive, background]), len(positive)
        positive = _some_of(positive, round(settings["FG_FRACTION"] * size))
        background = _some_of(negative.nonzero()[:, 0], size - len(positive))
        return torch.cat([positive, background]), len(positive)

    def _by_class(self, labels: Tensor, moves: Tensor) -> tuple[Tensor, Tensor]:
        """Deltas and inside weights (K, 4 classes), in the place of each label above 0."""
        place = labels.long()
        if self.classes == 2:
            place = place.clamp(max=1)
        if len(place) and int(place.max()) >= self.classes:
            raise DataError(
                f"label {int(place.max())} is outside of the {self.classes} classes of param_str."
            )
        row = (place > 0).nonzero()[:, 0]
        targets = moves.new_zeros(len(labels), self.classes, 4)
        within = moves.new_zeros(len(labels), self.classes, 4)
        targets[row, place[row]] = moves[row]
        within[row, place[row]] = moves.new_tensor(self.settings["BBOX_INSIDE_WEIGHTS"])
        return targets.flatten(1), within.flatten(1)
