"""The layer at SSD's end: boxes, one list for all images."""

from __future__ import annotations

from functools import cached_property
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.detection.boxes import decode_boxes
from moka.layers.detection.detect import ROW, DetectionLimits, detections, split_priors
from moka.layers.detection.results import ResultFiles, check_files
from moka.layers.options import classes, option
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
    objectness_score, all scores count as 0; and the offsets (N, 4 P) of its first stage, which
    move the prior boxes first. Top: (1, 1, K, 7), rows of image, label, score and corners x1, y1,
    x2, y2 as fractions of the image (not clipped), by image, label and falling score. If nothing
    is found at all, one row for each image: its index, then -1 six times. A score that is NaN is
    no detection; a box with a NaN overlaps nothing. No gradient.

    Message: detection_output_param. code_type says how offsets describe a box: CORNER adds them to
    the corners, CORNER_SIZE adds them times the prior box's size, CENTER_SIZE moves the center by
    offset times size and multiplies the size by exp(offset). Offsets are first multiplied by the
    variances unless variance_encoded_in_target. With `use_polygon` (TextBoxes++) eight more offsets
    for each box follow its four, which move its corners, from the upper left one on clockwise, by
    offset times size, and eight more columns hold the corners found: (1, 1, K, 15).
    save_output_param writes files of the detections (output_format VOC, ILSVRC or COCO) when the
    images that name_size_file lists, or num_test_image of them, have been seen: in a solver's
    tests, `caffe test` and pycaffe's passes, and nowhere else. `visualize` and its options change
    nothing here.

    Errors: counts that do not fit; a label that the label map lacks. Liu et al., 2016 (SSD);
    Zhang et al., 2018 (RefineDet). caffe-yolov2's layer of this name is YoloDetectionOutput here.
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

    def setup(self, *bottom_shapes: Shape) -> None:
        nms = self.nms_param
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
        boxes = prod(priors) // 8
        for shape, each in zip(first, (2, 4), strict=False):
            if shape[:1] != scores[:1] or prod(shape[1:]) != each * boxes:
                raise NetError(
                    f"{boxes} prior boxes need {each} values each from the first stage, got shape"
                    f" {shape_text(shape)}."
                )
        return [(1, 1, scores[0] if scores[0] == 0 else 1, ROW + self._values() - 4)]

    def _values(self) -> int:
        """How many offsets a box has."""
        return 4 + CORNERS if self.use_polygon else 4

    def forward(self, offsets: Tensor, scores: Tensor, priors: Tensor, *first: Tensor) -> Tensor:
        with torch.no_grad():
            n = len(scores)
            boxes, given = split_priors(priors)
            count = len(boxes)
            variances = None if self.variance_encoded_in_target else given
            confidence = scores.reshape(n, count, self.num_classes)
            if first:
                is_object = first[0].reshape(n, count, 2)[..., 1:] >= self.objectness_score
                confidence = confidence.where(is_object, 0)
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
            )
        if self.writes_results and self.files:
            self.files.add(rows[:, :ROW], n)
        return rows[None, None]


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
