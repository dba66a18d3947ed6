"""Data layers of MS-CNN and Cascade R-CNN: images with objects from lists."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property, partial
from typing import TypeVar

from moka.data.batches import RecordBatches
from moka.data.field_labels import CHANNELS, Field, nearest
from moka.data.object_canvas import CanvasBatches, CanvasOptions, boxes_table
from moka.data.object_images import ObjectImageBatches
from moka.data.object_lists import ListedImage, ObjectFiles
from moka.data.place import first_state
from moka.errors import NetError
from moka.layers.data import ImageSource
from moka.layers.options import option, positive
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import HeightWidth, Shape

B = TypeVar("B", bound="RecordBatches[ListedImage]")

DRAWN = DrawStyle(edge="Batch {batch_size}")
STEP = 32  # sizes that the short side decides are multiples of it
MSCNN_BOX, CASCADE_BOX = 7, 8  # numbers of a box


def map_shapes(images: Shape, config: caffe_pb2.LayerParameter) -> list[Shape]:
    """The shapes of the tops for images of this shape."""
    mscnn, cascade = config.image_gt_data_param, config.detection_data_param
    strides = (*mscnn.downsample_rate, *cascade.stride)  # of the one that is set
    count, _, height, width = images
    sizes = [Field(stride, 0, 0).map_size(height, width) for stride in strides]
    shapes: list[Shape] = [images, *((count, CHANNELS, *size) for size in sizes)]
    if mscnn.output_gt_boxes or cascade.output_gt_boxes:
        shapes.append((1, MSCNN_BOX if mscnn.output_gt_boxes else CASCADE_BOX, 1, 1))
    return shapes


class ObjectSource(ImageSource[B]):
    """What these layers share."""

    batch_size: int = option(positive, required=True)
    scale: float = option()  # Cascade R-CNN's layers take that of transform_param, as the fork does
    resize_width: int | None = option(positive)
    resize_height: int | None = option(positive)
    root_folder: str = option(default="")

    def setup(self) -> None:
        super().setup()
        self.check_pairs(("resize_width", "resize_height"))

    @cached_property
    @abstractmethod
    def files(self) -> ObjectFiles:
        """The list, read."""

    def check_pairs(self, *pairs: tuple[str, str]) -> None:
        """Raise NetError for options that are set without the other one of their pair."""
        for one, other in pairs:
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise NetError(f"give both {one} and {other}, or neither.")

    def later_files(self) -> list[str]:
        return self.files.later_files()

    def opened_notes(self) -> list[str]:
        return [*self.files.notes(), self.size_note()]


class CanvasSource(ObjectSource[CanvasBatches]):
    """What the layers for training share."""

    field_h: tuple[int, ...] = option(positive)
    field_w: tuple[int, ...] = option(positive)
    coord_num: int = option()
    fg_threshold: float = option(positive)
    crop_width: int = option()
    crop_height: int = option()
    min_whaspect: float | None = option(positive)
    max_whaspect: float | None = option(positive)
    min_gt_width: float = option()
    min_gt_height: float = option()
    output_gt_boxes: bool = option()
    cache_images: bool = option()  # without effect: images are read ahead

    def setup(self) -> None:
        super().setup()
        self.check_pairs(("crop_width", "crop_height"))
        if self.coord_num != 4:
            raise NetError(f"coord_num is 4, got {self.coord_num}.")
        if self.config.transform_param.HasField("mean_file"):
            raise NetError("takes no mean file.", advice="Give mean_value.")

    def scales(self, strides: tuple[int, ...]) -> list[Field]:
        """The scales of the maps.

        Raises:
            NetError: not one stride, height and width for each.
        """
        if not len(strides) == len(self.field_h) == len(self.field_w):
            raise NetError(
                f"give as many field_h and field_w as strides: {len(strides)} strides,"
                f" {len(self.field_h)} field_h, {len(self.field_w)} field_w."
            )
        return [Field(*each) for each in zip(strides, self.field_h, self.field_w, strict=True)]

    def top_shapes(self) -> list[Shape]:
        images = (self.batch_size, *self.batches.image_shape)
        return map_shapes(images, self.config)

    @abstractmethod
    def canvas_options(self) -> CanvasOptions:
        """How images become a batch."""

    def open(self) -> CanvasBatches:
        return CanvasBatches(
            self.files,
            self.make_transform(),
            batch_size=self.batch_size,
            start=first_state(is_random=True),
            options=self.canvas_options(),
        )


def in_steps(length: float) -> int:
    """The nearest multiple of 32."""
    return nearest(length / STEP) * STEP


def _eval_stand_in(config: caffe_pb2.LayerParameter, images: Shape) -> list[Shape]:
    return [images, (1, CASCADE_BOX, 1, 1), (images[0], 2, 1, 1)]


@layer(
    "EvalData",
    bottoms=0,
    tops=(2, 3),
    source="files",
    channels=3,
    stand_in=_eval_stand_in,
    shapes_from_data=True,
    fork="Cascade R-CNN",
    drawn=DRAWN,
)
class EvalData(ObjectSource[ObjectImageBatches]):
    """Images and objects from a list, in its order, over and over, for tests of Cascade R-CNN.

    Tops: data (batch_size, 3, H, W) float; boxes (G, 8, 1, 1): image, x1, y1, x2, y2, label,
    ignore, difficult, in pixels of data, one row of -1 without boxes; optionally (batch_size, 2,
    1, 1), height and width of the images. Images are resized to resize_width x resize_height; or
    so that their short side is short_size, but no side longer than long_size; in any case to the
    nearest multiples of 32. Messages: eval_data_param; transform_param (mean_value, scale);
    data_param (`prefetch`). Cai and Vasconcelos, 2018.

    Errors: a list or an image that cannot be read; batch_size above 1 without resize_width and
    resize_height.
    """

    short_size: int | None = option(positive)
    long_size: int | None = option(positive)

    def setup(self) -> None:
        super().setup()
        self.check_pairs(("short_size", "long_size"))
        if self.batch_size > 1 and not self.resize_width:
            raise NetError(
                f"images may differ in size, so batch_size is 1, got {self.batch_size}.",
                advice="Or give resize_width and resize_height.",
            )

    @cached_property
    def files(self) -> ObjectFiles:
        return ObjectFiles(self.source, with_difficult=True, root_folder=self.root_folder)

    def open(self) -> ObjectImageBatches:
        return ObjectImageBatches(
            self.files,
            self.make_transform(),
            batch_size=self.batch_size,
            start=first_state(is_random=False),
            resize=self._resized,
            boxes=partial(boxes_table, empty=(-1,) * CASCADE_BOX, columns=CASCADE_BOX),
        )

    def _resized(self, height: int, width: int) -> HeightWidth:
        if self.resize_width and self.resize_height:
            height, width = self.resize_height, self.resize_width
        elif self.short_size and self.long_size:
            factor = self.short_size / min(height, width)
            height, width = (min(nearest(n * factor), self.long_size) for n in (height, width))
        return max(STEP, in_steps(height)), max(STEP, in_steps(width))

    def top_shapes(self) -> list[Shape]:
        images = (self.batch_size, *self.batches.image_shape)
        return _eval_stand_in(self.config, images)[: self.top_count]
