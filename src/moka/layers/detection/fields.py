"""The regions that MS-CNN and Cascade R-CNN read off the score maps of several scales."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BoxColumns
from moka.layers.detection.nms import Suppression, best_boxes
from moka.layers.detection.regression import Bounds, RegressionLayer, field_boxes
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.schema import caffe_pb2
from moka.types import Shape

NMS_TYPES = ("IOU", "IOMU", "IOFU")
NO_BOX = (0.0, 1.0, 1.0, 10.0, 10.0)  # the region that stands for none


class _FieldOutput(RegressionLayer):
    """Base of BoxOutput and BoxGroupOutput."""

    box_columns = BoxColumns(row=6, corner=1, score=5, top=1, are_regions=True)
    beyond: ClassVar[int] = 0  # pixels that the second corner written lies beyond the box
    last_first: ClassVar[bool] = False  # whether of equal scores the last is the best

    fg_thr: float = option()
    iou_thr: float = option(not_negative)
    nms_type: str = option()
    field_whr: float = option(positive)
    field_xyr: float = option(positive)
    max_nms_num: int = option()
    max_post_nms_num: int = option()
    min_size: float = option()

    def setup(self, *bottom_shapes: Shape) -> None:
        if self.nms_type not in NMS_TYPES:
            raise NetError(
                f'nms_type must be one of {", ".join(NMS_TYPES)}, got "{self.nms_type}".'
            )
        self.deltas = self.scale_of_deltas()
        self.bounds = Bounds(self.field_xyr, self.field_whr)
        self.limits = Suppression(
            self.iou_thr, self.nms_type, self.max_nms_num, self.max_post_nms_num
        )

    def announced(self) -> list[Shape]:
        """Shapes of the tops before anything is known."""
        shapes: list[Shape] = [(1, 5, 1, 1), (1, 6, 1, 1)]
        return shapes[: self.top_count]

    def regions(
        self, boxes: list[list[Tensor]], scores: list[list[Tensor]], like: Tensor
    ) -> list[Tensor]:
        """The tops, from boxes (K, 4) and scores (K,) of each scale of each image."""
        rows = []
        for image, (of_image, found) in enumerate(zip(boxes, scores, strict=True)):
            box, score = torch.cat(of_image), torch.cat(found)
            if self.last_first:
                box, score = box.flip(0), score.flip(0)
            kept = best_boxes(box, score, self.limits)
            corner = box[kept] + box.new_tensor([0, 0, self.beyond, self.beyond])
            index = torch.full_like(score[kept], image)[:, None]
            rows.append(torch.cat([index, corner, score[kept][:, None]], 1))
        every = torch.cat(rows) if rows else like.new_zeros(0, 6)
        if not len(every):
            every = every.new_zeros(1, 6)
            tops = [every.new_tensor(NO_BOX)[None], every]
        else:
            tops = [every[:, :5], every]
        return [top[:, :, None, None].contiguous() for top in tops[: self.top_count]]


@layer(
    "BoxOutput",
    bottoms=(1, None),
    tops=(1, 2),
    fork="MS-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class BoxOutput(_FieldOutput):
    """Regions from the score and delta maps of several scales.

    At each cell of a map the score is the largest of a class but the first, minus the first, the
    background. Where it is fg_thr or more, the cell's field (field_w x field_h pixels around its
    center) is moved by its deltas, which are limited to 1 / field_xyr of the field and a factor of
    field_whr, cut to the image and kept if min_size pixels high and wide. The max_nms_num best of
    an image are suppressed if they overlap a better one by more than iou_thr (nms_type: IOU of
    the area of both, IOMU of the smaller, IOFU of the better box); max_post_nms_num stay. 0: all.

    Bottoms: maps (N, C + 4, H, W), C scores, then deltas; one for each field_w, field_h and
    downsample_rate (pixels a cell). Tops: regions (R, 5, 1, 1) of image and corners x1, y1,
    x2, y2 in pixels (the second corner is the first plus the size), image by image, the best first;
    optionally with the score, (R, 6, 1, 1).
    Without any region one of 1, 1, 10, 10, and a row of zeros. No gradient. Messages:
    box_output_param, bbox_reg_param (deltas are multiplied by bbox_std, then bbox_mean is added).
    Cai et al., 2016 (MS-CNN).

    Errors: not one field and rate for each bottom; another nms_type.
    """

    beyond = 1
    last_first = True

    field_h: tuple[int, ...] = option(positive)
    field_w: tuple[int, ...] = option(positive)
    downsample_rate: tuple[int, ...] = option(positive)

    def top_shapes(self, *maps: Shape) -> list[Shape]:
        counts = {len(self.field_h), len(self.field_w), len(self.downsample_rate)}
        if counts != {len(maps)}:
            raise NetError(
                "field_h, field_w and downsample_rate must be given once for each of"
                f" {len(maps)} bottoms, got {len(self.field_h)}, {len(self.field_w)} and"
                f" {len(self.downsample_rate)} values."
            )
        for shape in maps:
            if len(shape) != 4 or shape[1] < 6 or shape[0] != maps[0][0]:
                raise NetError(
                    "maps are blobs N C H W of two scores or more and four deltas, got shape"
                    f" {shape_text(shape)}."
                )
        return self.announced()

    def forward(self, *maps: Tensor) -> list[Tensor]:
        boxes: list[list[Tensor]] = [[] for _ in maps[0]]
        scores: list[list[Tensor]] = [[] for _ in maps[0]]
        with torch.no_grad():
            for k, values in enumerate(maps):
                score = values[:, 1:-4].amax(1) - values[:, 0]
                corner, size = self._placed(values[:, -4:], k)
                good = (score >= self.fg_thr) & (size >= self.min_size).all(1)
                box = torch.cat([corner, corner + size - 1], 1).movedim(1, -1)
                for image in range(len(values)):
                    boxes[image].append(box[image][good[image]])
                    scores[image].append(score[image][good[image]])
            return self.regions(boxes, scores, maps[0])

    def _placed(self, deltas: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """First corners and sizes (N, 2, H, W) of the boxes of a map, cut to the image."""
        rate = self.downsample_rate[k]
        fields = deltas.new_tensor([self.field_w[k], self.field_h[k]]).expand(len(deltas), 2)
        bounded = self.bounds.clamp(self.deltas.restore(deltas, 1))
        center, size = field_boxes(bounded, fields, rate)
        corner = (center - size / 2).clamp(min=0)
        height, width = deltas.shape[2] * rate, deltas.shape[3] * rate
        image = deltas.new_tensor([width, height]).view(1, 2, 1, 1)
        return corner, torch.minimum(size, image - corner)


@layer(
    "BoxGroupOutput",
    bottoms=(2, None),
    tops=(1, 2),
    fork="Cascade R-CNN",
    differentiable=False,
    shapes_from_data=True,
)
class BoxGroupOutput(_FieldOutput):
    """Regions from the score and delta maps of several scales, each of several fields.

    As BoxOutput, but for these: maps come in pairs, scores after a softmax, and deltas; the score
    of a cell is 1 minus that of the background; a map of one image has an item for each field of
    its box_group_param; boxes are cut to [0, width] and [0, height].

    Bottoms: for each box_group_param scores (N G, C, H, W) and deltas (N G, 4, H, W), the G
    fields of an image after each other. Tops: regions (R, 5, 1, 1) of image and corners x1, y1,
    x2, y2 in pixels; optionally with the score, (R, 6, 1, 1). Without any region one of 1, 1, 10,
    10, and a row of zeros. No gradient. Messages: box_group_output_param (`stride` of a group in
    pixels a cell), bbox_reg_param. Cai and Vasconcelos, 2018 (Cascade R-CNN).

    Errors: not a pair of bottoms for each group; counts that do not fit.
    """

    box_group_param: tuple[caffe_pb2.BoxGroupParameter, ...] = option()

    def top_shapes(self, *maps: Shape) -> list[Shape]:
        groups = self.box_group_param
        if len(maps) != 2 * len(groups):
            raise NetError(
                f"needs two bottoms for each box_group_param: {2 * len(groups)}, got {len(maps)}."
            )
        images = set()
        for k, group in enumerate(groups):
            scores, deltas = maps[2 * k : 2 * k + 2]
            count = len(group.field_h)
            if not count or count != len(group.field_w) or not group.stride:
                raise NetError("a box_group_param needs as many field_w as field_h, and a stride.")
            if len(scores) != 4 or deltas != (scores[0], 4, *scores[2:]) or scores[0] % count:
                raise NetError(
                    f"group {k} needs scores NG C H W and deltas NG 4 H W for {count} fields, got"
                    f" shapes {shape_text(scores)} and {shape_text(deltas)}."
                )
            images.add(scores[0] // count)
        if len(images) > 1:
            raise NetError(f"the groups have different numbers of images: {sorted(images)}.")
        return self.announced()

    def forward(self, *maps: Tensor) -> list[Tensor]:
        count = len(maps[0]) // len(self.box_group_param[0].field_h)
        boxes: list[list[Tensor]] = [[] for _ in range(count)]
        scores: list[list[Tensor]] = [[] for _ in range(count)]
        with torch.no_grad():
            for k, group in enumerate(self.box_group_param):
                score = 1 - maps[2 * k][:, 0]
                box = self._placed(maps[2 * k + 1], group)
                large = (box[:, 2:] - box[:, :2] + 1 >= self.min_size).all(1)
                good = (score >= self.fg_thr) & large
                fields = len(group.field_h)
                for image in range(count):
                    mine = slice(image * fields, (image + 1) * fields)
                    boxes[image].append(box[mine].movedim(1, -1)[good[mine]])
                    scores[image].append(score[mine][good[mine]])
            return self.regions(boxes, scores, maps[0])

    def _placed(self, deltas: Tensor, group: caffe_pb2.BoxGroupParameter) -> Tensor:
        """Corners (NG, 4, H, W) of the boxes of a pair of maps, cut to the image."""
        fields = deltas.new_tensor(list(zip(group.field_w, group.field_h, strict=True)))
        fields = fields.repeat(len(deltas) // len(fields), 1)
        bounded = self.bounds.clamp(self.deltas.restore(deltas, 1))
        center, size = field_boxes(bounded, fields, group.stride)
        corner = center - size / 2
        width, height = deltas.shape[3] * group.stride, deltas.shape[2] * group.stride
        limit = deltas.new_tensor([width, height]).view(1, 2, 1, 1)
        return torch.cat([corner.clamp(min=0), torch.minimum(corner + size - 1, limit)], 1)
