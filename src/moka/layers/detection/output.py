"""The layer at SSD's end: boxes, one list for all images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.boxes import decode_boxes
from moka.layers.detection.detect import ROW, DetectionLimits, detections, split_priors
from moka.layers.detection.results import ResultFiles, check_files
from moka.layers.options import classes, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.schema import caffe_pb2
from moka.types import Shape

CORNERS = 8  # x and y of the four corners of a quadrilateral


@layer(
    "DetectionOutput",
    bottoms=(3, 5),
    tops=1,
    fork="SSD",
    differentiable=False,
    shapes_from_data=True,
    writes_files=True,
)
class DetectionOutput(Layer):
    """Detections from the scores and offsets of prior boxes.

    For each class but background_label_id: scores above confidence_threshold (any number without
    it), the nms_param.top_k best of them, greedy suppression of boxes that overlap a better one by
    more than nms_threshold (`eta` below 1 lowers a threshold above 0.5 with each box kept); then
    the keep_top_k best of an image over all classes. -1 means all.

    Bottoms: offsets (N, 4 P), or (N, 4 P num_classes) unless share_location; scores (N, P
    num_classes), after a softmax; prior boxes (1, 2, 4 P) as PriorBox makes them. RefineDet adds
    the scores (N, 2 P) of its first stage, whose second class is "an object": where that is below
    objectness_score, the first class has the score 1 and all others 0; and the offsets (N, 4 P) of
    its first stage, which move the prior boxes first. Top: (1, 1, K, 7), rows of image, label,
    score and corners x1, y1, x2, y2 as fractions of the image, by image, label and falling score.
    Boxes may reach beyond the image, unless `clip` (OpenCV) moves their corners into [0, 1] before
    the suppression. If nothing is found at all, one row for each image: its index, then -1 six
    times. A score that is NaN is no detection; a box with a NaN overlaps nothing. No gradient.

    Message: detection_output_param. code_type says how offsets describe a box: CORNER adds them to
    the corners, CORNER_SIZE adds them times the prior box's size, CENTER_SIZE moves the center by
    offset times size and multiplies the size by exp(offset). Offsets are first multiplied by the
    variances unless variance_encoded_in_target. With `use_polygon` (TextBoxes++) eight more offsets
    for each box follow its four, which move its corners, from the upper left one on clockwise, by
    offset times size, and eight more columns hold the corners found: (1, 1, K, 15).
    With `do_state_prediction` (tl_ssd) the fourth bottom holds num_states values of each prior box,
    (N, P num_states), which stand between score and corners in the top, (1, 1, K, 7 + num_states);
    a box is then suppressed by better ones of all classes, and top_k counts over all classes.
    save_output_param writes files of the detections (output_format VOC, ILSVRC or COCO) when the
    images that name_size_file lists, or num_test_image of them, have been seen: in a solver's
    tests, `caffe test` and pycaffe's passes, and nowhere else. `visualize` and its options change
    nothing here.

    Errors: counts that do not fit; a label that the label map lacks. Liu et al., 2016 (SSD);
    Zhang et al., 2018 (RefineDet); Mueller and Dietmayer, 2018 (tl_ssd). caffe-yolov2's layer of
    this name is YoloDetectionOutput here.
    """

    num_classes: int = option(classes, required=True)
    share_location: bool = option()
    background_label_id: int = option()
    nms_param: caffe_pb2.NonMaximumSuppressionParameter = option()
    save_output_param: caffe_pb2.SaveOutputParameter = option()
    code_type: str = option()
    keep_top_k: int = option()
    variance_encoded_in_target: bool = option()
    confidence_threshold: float | None = option()
    visualize: bool = option()
    visualize_threshold: float | None = option()
    save_file: str | None = option()
    objectness_score: float = option()
    use_polygon: bool = option()
    do_state_prediction: bool = option()
    num_states: int = option(positive)
    clip: bool = option()

    def setup(self, *bottom_shapes: Shape) -> None:
        nms = self.nms_param
        if self.do_state_prediction:
            self._check_states(*bottom_shapes)
        if not 0 < nms.eta <= 1:
            raise NetError(f"nms_param.eta must be above 0 and at most 1, got {nms.eta:g}.")
        if nms.nms_threshold < 0:
            raise NetError(f"nms_param.nms_threshold must be >= 0, got {nms.nms_threshold:g}.")
        self.limits = DetectionLimits(
            self.confidence_threshold,
            nms.top_k if nms.HasField("top_k") else -1,
            nms.nms_threshold,
            nms.eta,
            self.keep_top_k,
            together=self.do_state_prediction,
        )
        self.labels = set(range(self.num_classes)) - {self.background_label_id}
        check_files(self.save_output_param)

    @cached_property
    def files(self) -> ResultFiles | None:
        """The files to write, read and made ready in the first pass; None if there are none."""
        return ResultFiles.wanted(self.save_output_param, self.labels)

    def top_shapes(
        self, offsets: Shape, scores: Shape, priors: Shape, *first: Shape
    ) -> list[Shape]:
        check_prior_blobs(
            offsets, scores, priors, self.num_classes, self.share_location, self._values()
        )
        counts = (self.num_states,) if self.do_state_prediction else (2, 4)
        check_more_of_priors(scores, priors, first, counts)
        width = ROW + self._values() - 4 + (self.num_states if self.do_state_prediction else 0)
        return [(1, 1, scores[0] if scores[0] == 0 else 1, width)]

    def _values(self) -> int:
        """How many offsets a box has."""
        return 4 + CORNERS if self.use_polygon else 4

    def _check_states(self, *bottom_shapes: Shape) -> None:
        """Raises NetError unless bottoms and options fit do_state_prediction."""
        if len(bottom_shapes) != 4:
            raise NetError(
                "do_state_prediction: true needs four bottoms, the last with num_states values of"
                f" each prior box; got {len(bottom_shapes)}."
            )
        if not self.share_location:
            raise NetError("do_state_prediction: true needs share_location: true.")

    def forward(self, offsets: Tensor, scores: Tensor, priors: Tensor, *first: Tensor) -> Tensor:
        with torch.no_grad():
            n = len(scores)
            boxes, given = split_priors(priors)
            count = len(boxes)
            variances = None if self.variance_encoded_in_target else given
            confidence = scores.reshape(n, count, self.num_classes)
            states = None
            if self.do_state_prediction:
                states = first[0].reshape(n, count, self.num_states)
            elif first:
                nothing = first[0].reshape(n, count, 2)[..., 1:] < self.objectness_score
                background = torch.zeros_like(confidence[:1, :1])
                background[..., 0] = 1
                confidence = background.where(nothing, confidence)
            if len(first) > 1:
                moves = first[1].reshape(n, count, 4)
                boxes = decode_boxes(moves, boxes, variances, self.code_type)
            classes = 1 if self.share_location else self.num_classes
            moves = offsets.reshape(n, count, classes, self._values())
            rows = detections(
                confidence,
                moves[..., :4],
                boxes,
                variances,
                self.code_type,
                self.background_label_id,
                self.limits,
                moves[..., 4:] if self.use_polygon else None,
                states,
                clip=self.clip,
            )
        if self.writes_results and self.files:
            box = 3 + (self.num_states if self.do_state_prediction else 0)
            self.files.add(torch.cat([rows[:, :3], rows[:, box : box + 4]], 1), n)
        return rows[None, None]


def check_more_of_priors(
    scores: Shape, priors: Shape, blobs: Sequence[Shape], counts: Sequence[int]
) -> None:
    """Raises NetError unless blobs have so many values for each prior box."""
    boxes = prod(priors) // 8
    for shape, each in zip(blobs, counts, strict=False):
        if shape[:1] != scores[:1] or prod(shape[1:]) != each * boxes:
            raise NetError(
                f"{boxes} prior boxes need {each} values each from this bottom, got shape"
                f" {shape_text(shape)}."
            )


def check_prior_blobs(
    offsets: Shape, scores: Shape, priors: Shape, classes: int, shared: bool, values: int = 4
) -> None:
    """Raises NetError unless offsets, `values` a box, and scores fit the prior boxes."""
    if len(priors) != 3 or priors[:2] != (1, 2) or priors[2] % 4:
        raise NetError(f"prior boxes are a blob of shape 1 2 4P, got shape {shape_text(priors)}.")
    count = priors[2] // 4
    each = values if shared else values * classes
    if offsets[:1] != scores[:1]:
        raise NetError(
            f"offsets and scores are of different batches: {shape_text(offsets)} and"
            f" {shape_text(scores)}."
        )
    if prod(offsets[1:]) != count * each:
        raise NetError(
            f"Number of priors must match number of location predictions: {count} prior boxes need"
            f" {count * each} values an image, got shape {shape_text(offsets)}."
        )
    if prod(scores[1:]) != count * classes:
        raise NetError(
            f"Number of priors must match number of confidence predictions: {count} prior boxes"
            f" and {classes} classes need {count * classes} values an image, got shape"
            f" {shape_text(scores)}."
        )
