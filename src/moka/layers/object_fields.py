"""The data layers that MS-CNN and Cascade R-CNN train with: images, and maps of labels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

import numpy as np

from moka.data.distort import Distort
from moka.data.field_labels import FieldLabels, nearest
from moka.data.object_canvas import CanvasOptions, boxes_table
from moka.data.object_lists import ListedImage, ObjectFiles
from moka.data.object_scales import octaves, powers
from moka.data.order import Arrange, by_shape
from moka.errors import NetError
from moka.layers.object_lists import (
    CASCADE_BOX,
    DRAWN,
    MSCNN_BOX,
    CanvasSource,
    in_steps,
    map_shapes,
)
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.schema import caffe_pb2
from moka.types import HeightWidth

NO_MSCNN_BOX = (0, 1, 1, 2, 2, 1, 1)
SHUFFLES = ("random", "random_aspect", "random_mix_aspect")


@layer(
    "ImageGtData",
    bottoms=0,
    tops=(2, None),
    source="files",
    channels=3,
    stand_in=lambda config, images: map_shapes(images, config),
    shapes_from_data=True,
    fork="MS-CNN",
    drawn=DRAWN,
)
class ImageGtData(CanvasSource):
    """Images and objects from a list (see moka/data/object_lists.py), with a map of labels for each
    scale, over and over: MS-CNN's data for training.

    Tops: data (batch_size, 3, H, W) float; for each scale labels (batch_size, 6, H', W'), H' =
    round(H / downsample_rate): label, center x, center y, width, height, overlap (1 where the loss
    shall leave the anchor out); with `output_gt_boxes` boxes (G, 7, 1, 1): image, x1, y1, x2, y2,
    label, ignore, in pixels. H and W are crop_height and crop_width, else resize_height and
    resize_width, else those of the first image.

    An image is mirrored by chance (transform_param) and resized. With `do_multiple_scale`, one time
    in two, it is scaled so that a random one of its objects has a size from min_scale to max_scale;
    with min_whaspect and max_whaspect, half of these times, by a random aspect ratio. That object
    comes near the center of the canvas. Objects with a center off the canvas, or smaller than
    `min_gt_width` x `min_gt_height`, are to be ignored. An anchor has the label of the object that
    it overlaps by more than `fg_threshold`; objects that no anchor has take the one at their
    center, if they overlap any by 0.2. Images with objects come `fg_img_multiple` times in an
    epoch. Messages: image_gt_data_param; transform_param (mirror, mean_value); data_param
    (`prefetch`). Cai et al., 2016.

    Errors: a list or an image that cannot be read; other counts of field_h, field_w and
    downsample_rate.
    """

    mean_file: str = option(default="")  # mean_value counts, as in the fork
    mirror: bool = option()  # that of transform_param counts, as in the fork
    downsample_rate: tuple[int, ...] = option(positive)
    do_multiple_scale: bool = option()
    min_scale: int | None = option(positive)
    max_scale: int | None = option(positive)
    shuffle: bool = option()
    fg_img_multiple: int = option(positive)

    @cached_property
    def files(self) -> ObjectFiles:
        return ObjectFiles(
            self.source,
            with_difficult=False,
            root_folder=self.root_folder,
            shuffle=self.shuffle,
            foreground_times=self.fg_img_multiple,
        )

    def canvas_options(self) -> CanvasOptions:
        size = (self.resize_height, self.resize_width)
        crop = (self.crop_height, self.crop_width)

        def resize(height: int, width: int, ratio: float) -> HeightWidth:
            return (size[0] or height, size[1] or width)

        def canvas(height: int, width: int, ratio: float) -> HeightWidth:
            return (crop[0] or height, crop[1] or width)

        scales = None
        if self.do_multiple_scale and self.min_scale and self.max_scale:
            scales = (self.min_scale, self.max_scale)
        return CanvasOptions(
            resize,
            canvas,
            partial(octaves, scales=scales, aspects=_both(self.min_whaspect, self.max_whaspect)),
            FieldLabels(
                self.scales(self.downsample_rate),
                threshold=self.fg_threshold,
                region_threshold=0.4,
                pick_up=0.2,
                extra=0,
                regions_first=True,
            ),
            scale=self.scale,
            least=(self.min_gt_height, self.min_gt_width),
            boxes=partial(boxes_table, empty=NO_MSCNN_BOX, columns=MSCNN_BOX)
            if self.output_gt_boxes
            else None,
        )


@layer(
    "DetectionData",
    bottoms=0,
    tops=(1, None),
    source="files",
    channels=3,
    stand_in=lambda config, images: map_shapes(images, config),
    shapes_from_data=True,
    fork="Cascade R-CNN",
    drawn=DRAWN,
)
class DetectionData(CanvasSource):
    """Images and objects from a list (see moka/data/object_lists.py), with a map of labels for each
    scale, over and over: Cascade R-CNN's data for training.

    Tops: as ImageGtData's, with `stride` in place of downsample_rate, and boxes (G, 8, 1, 1) that
    also say whether they are difficult; a batch without boxes has a row of -1. Coordinates include
    the second corner.

    Images are resized to resize_width x resize_height, by `resize_ratio`, or so that their short
    side is short_size. The canvas is crop_width x crop_height; or crop_short_size x crop_long_size,
    or short_size x long_size, the long side along that of the batch's first image; else the size of
    that image. One of `template_ratio` is drawn for each batch; it multiplies short_size and
    long_size, which become multiples of 32. With probability `multiscale_prob` an image is scaled:
    by 2^u, u between log2 of low_scale_ratio and high_scale_ratio, or so that the chosen object has
    a size between min_scale and max_scale; with min_whaspect and max_whaspect by a random aspect
    ratio, too. `distort_param` changes colors (see AnnotatedData). Anchors that reach too far out
    of the image are left out: anchor_ignore_margin_ratio, anchor_ignore_iou_thr. `shuffle`: random;
    random_aspect, in which images that are higher than wide stay apart from the others; or
    random_mix_aspect, mix_group_size of one kind and of the other in turn. Messages:
    detection_data_param; transform_param (mirror, mean_value, scale); data_param (`prefetch`). Cai
    and Vasconcelos, 2018.

    Errors: those of ImageGtData; several ways to resize or to crop at once.
    """

    stride: tuple[int, ...] = option(positive)
    ignore_fg_threshold: float = option()
    min_scale: float | None = option(positive)
    max_scale: float | None = option(positive)
    multiscale_prob: float = option(not_negative)
    short_size: int | None = option(positive)
    long_size: int | None = option(positive)
    shuffle: str | None = option(unset_is_none=True)
    distort_param: caffe_pb2.DistortionParameter = option()
    resize_param: caffe_pb2.ResizeParameter = option()  # without effect, as in the fork
    resize_ratio: float | None = option(positive)
    crop_short_size: int | None = option(positive)
    crop_long_size: int | None = option(positive)
    low_scale_ratio: float | None = option(positive)
    high_scale_ratio: float | None = option(positive)
    anchor_ignore_margin_ratio: float | None = option(unset_is_none=True)
    anchor_ignore_iou_thr: float | None = option(unset_is_none=True)
    pickup_iou_thr: float = option()
    mix_group_size: int = option(positive)
    template_ratio: tuple[float, ...] = option(positive)

    def setup(self) -> None:
        super().setup()
        self.check_pairs(
            ("short_size", "long_size"),
            ("crop_short_size", "crop_long_size"),
            ("min_scale", "max_scale"),
            ("low_scale_ratio", "high_scale_ratio"),
        )
        for kind in (
            ("resize_width", "resize_ratio", "short_size"),
            ("crop_width", "crop_short_size"),
            ("min_scale", "low_scale_ratio"),
        ):
            given = [name for name in kind if getattr(self, name)]
            if len(given) > 1:
                raise NetError(f"give either {given[0]} or {given[1]}, not both.")
        if self.shuffle not in (None, *SHUFFLES):
            raise NetError(f'shuffle is one of {", ".join(SHUFFLES)}, got "{self.shuffle}".')

    @cached_property
    def files(self) -> ObjectFiles:
        return ObjectFiles(
            self.source,
            with_difficult=True,
            root_folder=self.root_folder,
            shuffle=self.shuffle is not None,
            arrange=self._arrange,
        )

    def _arrange(self, images: Sequence[ListedImage]) -> Arrange | None:
        if self.shuffle in (None, "random"):
            return None
        is_tall = np.array([image.shape[1] >= image.shape[2] for image in images])
        group = self.mix_group_size if self.shuffle == "random_mix_aspect" else None
        return partial(by_shape, is_tall=is_tall, group=group)

    def canvas_options(self) -> CanvasOptions:
        param = self.config.detection_data_param
        return CanvasOptions(
            self._resized,
            self._canvas,
            partial(
                powers,
                probability=self.multiscale_prob,
                ratios=_both(self.low_scale_ratio, self.high_scale_ratio),
                scales=_both(self.min_scale, self.max_scale),
                aspects=_both(self.min_whaspect, self.max_whaspect),
            ),
            FieldLabels(
                self.scales(self.stride),
                threshold=self.fg_threshold,
                region_threshold=self.ignore_fg_threshold,
                pick_up=self.pickup_iou_thr,
                extra=1,
                regions_first=False,
                margin=self.anchor_ignore_margin_ratio,
                inside=self.anchor_ignore_iou_thr,
            ),
            ratios=self.template_ratio or (1.0,),
            distort=Distort(self.distort_param) if param.HasField("distort_param") else None,
            least=(self.min_gt_height, self.min_gt_width),
            boxes=partial(boxes_table, empty=(-1,) * CASCADE_BOX, columns=CASCADE_BOX)
            if self.output_gt_boxes
            else None,
        )

    def _resized(self, height: int, width: int, ratio: float) -> HeightWidth:
        if self.resize_width and self.resize_height:
            return self.resize_height, self.resize_width
        if self.resize_ratio:
            return nearest(height * self.resize_ratio), nearest(width * self.resize_ratio)
        if self.short_size:
            factor = in_steps(self.short_size * ratio) / min(height, width)
            return nearest(height * factor), nearest(width * factor)
        return height, width

    def _canvas(self, height: int, width: int, ratio: float) -> HeightWidth:
        if self.crop_width:
            return self.crop_height, self.crop_width
        if self.crop_short_size and self.crop_long_size:
            sides = self.crop_short_size, self.crop_long_size
        elif self.short_size and self.long_size:
            sides = in_steps(self.short_size * ratio), in_steps(self.long_size * ratio)
        else:
            return height, width
        return (sides[1], sides[0]) if height >= width else sides


def _both(least: float | None, most: float | None) -> tuple[float, float] | None:
    """The two values; None if one is not set."""
    return None if least is None or most is None else (least, most)
