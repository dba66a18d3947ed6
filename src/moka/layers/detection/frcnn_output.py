"""The layer at the end of Cascade R-CNN: detections of one image in its pixels."""

from __future__ import annotations

from functools import cached_property
from math import prod

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import BoxColumns
from moka.layers.detection.fields import NMS_TYPES
from moka.layers.detection.nms import kept_of
from moka.layers.detection.regression import RegressionLayer, region_boxes
from moka.layers.detection.results import ResultFiles, check_files
from moka.layers.detection.stages import check_as_many, check_rows
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import as_rows, shape_text
from moka.schema import caffe_pb2
from moka.types import Shape


@layer(
    "FrcnnOutput",
    bottoms=4,
    tops=1,
    fork="Cascade R-CNN",
    differentiable=False,
    shapes_from_data=True,
    writes_files=True,
)
class FrcnnOutput(RegressionLayer):
    """Detections from the scores and deltas of the regions of one image.

    For each class but the first: regions with a score of conf_thr or more, moved by their deltas
    and cut to [0, width] and [0, height]; those are dropped that overlap a better one by more than
    iou_thr (nms_type as in BoxOutput); the max_det_num best of all classes stay (0: all).

    Bottoms: scores (R, C), after a softmax; deltas (R, 4 C), or with cls_aware false (R, 8), of
    which the second four count; regions (R, 5 or 6) of image 0, corners in pixels, and a score
    that is not read; height and width of the net's image (1, 2). Top: (1 + K, 7, 1, 1), first 0 and
    -1 six times, then rows of 0, corners x1, y1, x2, y2 in pixels, label, score by label and
    falling score. No gradient. Messages: frcnn_output_param, bbox_reg_param. save_output_param
    writes files, in pixels of the original images, as DetectionOutput does. Cai and Vasconcelos,
    2018.

    Errors: counts that do not fit; a region of another image; a label that the label map lacks.
    """

    box_columns = BoxColumns(row=7, corner=1, score=6, label=5)

    conf_thr: float = option()
    iou_thr: float = option(not_negative)
    nms_type: str = option()
    max_det_num: int = option()
    save_output_param: caffe_pb2.SaveOutputParameter = option()

    def setup(self, scores: Shape, *_: Shape) -> None:
        if self.nms_type not in NMS_TYPES:
            raise NetError(
                f'nms_type must be one of {", ".join(NMS_TYPES)}, got "{self.nms_type}".'
            )
        self.deltas = self.scale_of_deltas()
        self.labels = range(1, prod(scores[1:]))
        check_files(self.save_output_param)

    @cached_property
    def files(self) -> ResultFiles | None:
        """The files to write, read and made ready in the first pass; None if there are none."""
        return ResultFiles.wanted(self.save_output_param, self.labels)

    def top_shapes(self, scores: Shape, deltas: Shape, rois: Shape, size: Shape) -> list[Shape]:
        classes = prod(scores[1:])
        check_rows("deltas", deltas, 4 * classes if self.cls_aware else 8)
        check_rows("regions", rois, 5, 6)
        check_as_many(scores, deltas, rois)
        if prod(size) != 2:
            raise NetError(
                f"the last bottom holds height and width of one image, got {shape_text(size)}."
            )
        return [(1, 7, 1, 1)]

    def forward(self, scores: Tensor, deltas: Tensor, rois: Tensor, size: Tensor) -> Tensor:
        with torch.no_grad():
            values, regions = as_rows(scores), as_rows(rois)
            image = regions[:, 0].long()
            if (image != image[:1]).any():
                raise DataError("takes regions of one image at a time.")
            places = prod(deltas.shape[1:]) // 4
            moves = self.deltas.restore(deltas.reshape(len(values), places, 4))
            boxes = region_boxes(moves, regions[:, 1:5])
            height, width = size.flatten().tolist()
            limit = boxes.new_tensor([width, height])
            boxes = torch.cat(
                [boxes[..., :2].clamp(min=0), torch.minimum(boxes[..., 2:], limit)], -1
            )
            rows = [values.new_tensor([0.0] + [-1.0] * 6)[None]]
            for label in range(1, values.shape[1]):
                rows.append(self._of_class(boxes, values[:, label], label))
            found = torch.cat(rows)
            if 0 < self.max_det_num < len(found) - 1:
                best = found[1:, 6].argsort(descending=True, stable=True)[: self.max_det_num]
                found = torch.cat([found[:1], found[1:][best.sort()[0]]])
        if self.writes_results and self.files:
            self._save(found[1:], height, width)
        return found[:, :, None, None]

    def _of_class(self, boxes: Tensor, score: Tensor, label: int) -> Tensor:
        """Rows (K, 7) of the detections of one class."""
        index = (score >= self.conf_thr).nonzero()[:, 0]
        index = index[score[index].argsort(descending=True, stable=True)]
        mine = boxes[index, label if self.cls_aware else 1]
        kept = kept_of(mine, self.iou_thr, extra=1, over=self.nms_type)
        scores = score[index[kept]][:, None]
        return torch.cat(
            [torch.zeros_like(scores), mine[kept], torch.full_like(scores, label), scores], 1
        )

    def _save(self, rows: Tensor, height: float, width: float) -> None:
        assert self.files is not None
        name, true_height, true_width = self.files.next_image
        scale = rows.new_tensor([true_width / width, true_height / height] * 2)
        corners = (rows[:, 1:5] * scale).tolist()
        self.files.add_image(name, rows[:, 5].tolist(), rows[:, 6].tolist(), corners)
