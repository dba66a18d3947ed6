"""Data layers that read images with a map of class labels, for segmentation."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property

from moka.data.decode import Decoder
from moka.data.label_maps import (
    ContextBatches,
    Cut,
    EdgeMapFiles,
    LabelMapBatches,
    LabelMapFiles,
    LabelSlice,
    join_lists,
    read_pairs,
)
from moka.data.place import CursorState, first_state
from moka.data.transform import Transform
from moka.errors import NetError
from moka.layers.data import ImageSource
from moka.layers.options import option, positive
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import Shape


class LabelMapSource(ImageSource[LabelMapBatches]):
    """Base of all.

    Attributes:
        scales: whether images are resized by factors that are drawn in any phase.
    """

    shuffle: bool = option()
    rand_skip: int = option()
    scales = False

    @cached_property
    @abstractmethod
    def files(self) -> LabelMapFiles:
        """The list, read."""

    @abstractmethod
    def cut(self) -> Cut:
        """How images and label maps are cut."""

    def transform_fields(self) -> caffe_pb2.TransformationParameter:
        """The transformation after the cut."""
        fields = caffe_pb2.TransformationParameter()
        fields.CopyFrom(self.config.transform_param)
        fields.ClearField("crop_size")
        return fields

    def open(self) -> LabelMapBatches:
        training = self.config.phase == caffe_pb2.TRAIN
        transform = Transform(self.transform_fields(), training=training)
        if transform.augment.changes_geometry or transform.augment.changes_color:
            raise NetError(
                "of Moka's own augmentation nothing is applied to label maps: leave resize_short_"
                "side and random_... out of transform_param."
            )
        cut = self.cut()
        cuts = training and (cut.height > 0 or bool(cut.factors))
        random = transform.is_random or self.shuffle or self.scales or cuts
        return self.batches_from(
            first_state(rand_skip=self.rand_skip, is_random=random), transform, cut
        )

    def batches_from(self, start: CursorState, transform: Transform, cut: Cut) -> LabelMapBatches:
        return LabelMapBatches(
            self.files, transform, batch_size=self.batch_size, start=start, cut=cut
        )

    def top_shapes(self) -> list[Shape]:
        shapes = [*super().top_shapes(), (self.batch_size, 1, 1, 2)]
        return shapes[: self.top_count]

    def later_files(self) -> list[str]:
        return self.files.later_files()

    def opened_notes(self) -> list[str]:
        return [
            *self.mean_note(self.batches.transform),
            f"Opening file {self.source}",
            *(["Shuffling data"] if self.shuffle else []),
            f"A total of {len(self.files)} images.",
            self.size_note(),
        ]


class PairSource(LabelMapSource):
    """Base of those whose list names both, and that may bring both to one size."""

    root_folder: str = option(default="")
    new_height: int = option()
    new_width: int = option()
    is_color: bool = option()

    def setup(self) -> None:
        super().setup()
        for one, other in (("new_height", "new_width"), ("crop_height", "crop_width")):
            if bool(getattr(self, one)) != bool(getattr(self, other)):
                raise NetError(
                    f"{one} and {other} go together: got {one}={getattr(self, one)},"
                    f" {other}={getattr(self, other)}."
                )

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width that images are resized to; None: they keep their size."""
        return (self.new_height, self.new_width) if self.new_height else None


DRAWN = DrawStyle(edge="Batch {batch_size}")


def _stand_in(config: caffe_pb2.LayerParameter, images: Shape) -> list[Shape]:
    count, _, height, width = images
    return [images, (count, 1, height, width), (count, 1, 1, 2)]


@layer(
    "DenseImageData",
    bottoms=0,
    tops=(1, 2),
    source="files",
    stand_in=_stand_in,
    fork="SegNet and ENet",
    drawn=DRAWN,
)
class DenseImageData(PairSource):
    """Images and label images from a list of both, over and over; both are cut and mirrored alike.

    Tops: data (batch_size, C, H, W) float; labels (batch_size, 1, H, W). Message:
    dense_image_data_param (`source`: the list, the paths of an image and of its label image on
    each line; `root_folder`: put before each path as it is; `new_height`, `new_width`: resize
    both, labels to the nearest pixel; `crop_height`, `crop_width`: a part, at a random place in
    training, else in the center; `mirror`; `mean_file`; `label_divide_factor`: labels are divided
    by it, rounding down; `is_color`, `shuffle`, `rand_skip`, `batch_size`), transform_param,
    data_param (`prefetch`).

    Errors: a list or an image that is missing or cannot be read; a label image of another size
    than its image; a crop larger than the image.
    """

    batch_size: int = option(positive, required=True)
    root_folder: str = option(default="")
    mean_file: str = option(default="")
    mirror: bool = option()
    crop_width: int = option()
    crop_height: int = option()
    label_divide_factor: int = option(positive)

    @cached_property
    def files(self) -> LabelMapFiles:
        return LabelMapFiles(
            self.source,
            read_pairs(self.source),
            Decoder(color=self.is_color, size=self.size),
            resized=self.size is not None,
            divide=self.label_divide_factor,
            root_folder=self.root_folder,
            shuffle=self.shuffle,
        )

    def cut(self) -> Cut:
        side = self.config.transform_param.crop_size
        return Cut(self.crop_height or side, self.crop_width or side)

    def transform_fields(self) -> caffe_pb2.TransformationParameter:
        fields = super().transform_fields()
        if self.mean_file:
            fields.mean_file = self.mean_file
        fields.mirror = fields.mirror or self.mirror
        return fields


@layer(
    "ImageSegData",
    bottoms=0,
    tops=(1, 3),
    message="image_data_param",
    source="files",
    stand_in=_stand_in,
    fork="PSPNet and DeepLab",
    drawn=DRAWN,
)
class ImageSegData(PairSource):
    """Images and label images from a list of both, over and over; both are cut and mirrored alike,
    and what is smaller than the crop is extended below and on the right.

    Tops: data (batch_size, C, H, W) float; labels (batch_size, 1, H, W); sizes
    (batch_size, 1, 1, 2), height and width of the images before the cut. Messages:
    image_data_param (`source`: the list; `label_type` says what stands behind the path of an
    image: PIXEL, the path of its label image; IMAGE (default), the label of all its pixels; NONE,
    nothing, and its pixels have `ignore_label`; the rest as in ImageData), transform_param
    (`crop_size`, or `crop_height` and `crop_width`: a part, at a random place in training, else in
    the center; `scale_factors`: in training both are first resized by one of them, drawn by
    chance), data_param (`prefetch`). Images are extended with mean_value, labels with
    `ignore_label`.

    Errors: those of DenseImageData.
    """

    root_folder: str = option()
    ignore_label: int = option()
    label_type: str = option()
    crop_height: int = option(of="transform_param")
    crop_width: int = option(of="transform_param")
    scale_factors: tuple[float, ...] = option(positive, of="transform_param")

    @cached_property
    def files(self) -> LabelMapFiles:
        return LabelMapFiles(
            self.source,
            read_pairs(self.source, alone=self.label_type == "NONE"),
            Decoder(color=self.is_color, size=self.size),
            kind=self.label_type,
            ignored=self.ignore_label,
            resized=self.size is not None,
            root_folder=self.root_folder,
            shuffle=self.shuffle,
        )

    def cut(self) -> Cut:
        side = self.config.transform_param.crop_size
        return Cut(
            self.crop_height or side,
            self.crop_width or side,
            self.ignore_label,
            self.scale_factors,
        )

    def transform_fields(self) -> caffe_pb2.TransformationParameter:
        fields = super().transform_fields()
        for name in ("crop_height", "crop_width", "scale_factors"):
            fields.ClearField(name)
        return fields


@layer(
    "ImageLabelmapData",
    bottoms=0,
    tops=(1, 2),
    message="image_data_param",
    source="files",
    stand_in=_stand_in,
    fork="HED",
    drawn=DRAWN,
)
class ImageLabelmapData(PairSource):
    """Images and gray images of their edges from a list of both, over and over; both are cut and
    mirrored alike.

    Tops: data (batch_size, C, H, W) float; edges (batch_size, 1, H, W): 1 where the gray image is
    128 or above, else 0. Messages: image_data_param (`source`: the list, the paths of an image and
    of the image of its edges on each line; the rest as in ImageData, except that `new_height` and
    `new_width` resize both), transform_param, data_param (`prefetch`). Xie and Tu, 2015.

    Errors: those of DenseImageData.

    RCF has gray / 255 in place of 0 and 1; so has `fractional_labels: true` in image_data_param,
    a field of Moka's own.
    """

    root_folder: str = option()
    fractional_labels: bool = option()
    crop_height = crop_width = 0  # transform_param's crop_size is the only crop

    @cached_property
    def files(self) -> LabelMapFiles:
        return EdgeMapFiles(
            self.source,
            read_pairs(self.source),
            Decoder(color=self.is_color, size=self.size),
            fractions=self.fractional_labels,
            resized=self.size is not None,
            root_folder=self.root_folder,
            shuffle=self.shuffle,
        )

    def cut(self) -> Cut:
        side = self.config.transform_param.crop_size
        return Cut(side, side)


def _sliced(config: caffe_pb2.LayerParameter, images: Shape) -> list[Shape]:
    return [images, (images[0], 1, *config.image_label_data_param.label_slice.dim)]


AXES = ("row", "column")


@layer(
    "ImageLabelData",
    bottoms=0,
    tops=2,
    message="image_label_data_param",
    source="files",
    stand_in=_sliced,
    fork="dilation",
    drawn=DRAWN,
)
class ImageLabelData(LabelMapSource):
    """Images and label images from two lists, over and over, for nets that see more of an image
    than they label: of the labels a slice is kept.

    Both are extended by label_slice's offset on all sides, and where they are still smaller than
    crop_size up to that, around the center; images by their mirror image (`padding: REFLECT`) or
    by zeros (ZERO), labels by 255. Then both are cut to crop_size, at a random place in training,
    else in the center, and mirrored alike. Kept are the labels at offset + k stride, k < dim, along
    rows (first) and columns (second).

    Tops: data (batch_size, 3, crop_size, crop_size) float; labels (batch_size, 1, dim, dim).
    Messages: image_label_data_param (`image_list_path`, `label_list_path`: the lists, a path on
    each line; `image_dir`, `label_dir`, or `data_dir` for both: put before each path as it is;
    `rand_scale`: in any phase both are first resized by a factor between min_scale and max_scale,
    drawn by chance; `shuffle`, `rand_skip`, `batch_size`), transform_param (`crop_size` is needed),
    data_param (`prefetch`). Yu and Koltun, 2016.

    Errors: lists of different lengths; a list or an image that is missing or cannot be read; a
    label image of another size than its image; a slice that is not two numbers each of dim, stride
    and offset, or that reaches beyond crop_size; no crop_size; a `backend`, which Caffe-Jacinto has
    for databases.
    """

    source: str = option(field="image_list_path", required=True)
    label_list_path: str = option(required=True)
    batch_size: int = option(positive)
    data_dir: str = option(default="")
    image_dir: str = option(default="")
    label_dir: str = option(default="")
    rand_scale: bool = option()
    min_scale: float = option(positive)
    max_scale: float = option(positive)
    label_slice: caffe_pb2.Slice = option()
    padding: str = option()
    backend: str | None = option(unset_is_none=True)

    def setup(self) -> None:
        super().setup()
        if self.backend is not None:
            raise NetError(
                "image_list_path and label_list_path are lists of files here, not databases.",
                advice="Leave out backend and give lists, as of an ImageSegData layer.",
            )
        self.side = self.config.transform_param.crop_size
        if not self.side:
            raise NetError("transform_param needs crop_size.")
        if self.min_scale > self.max_scale:
            raise NetError(
                f"min_scale must be <= max_scale, got {self.min_scale:g} and {self.max_scale:g}."
            )
        self.scales = self.rand_scale
        self.kept = self._slice()

    def _slice(self) -> LabelSlice:
        given = self.label_slice
        numbers = {name: tuple(getattr(given, name)) for name in ("dim", "stride", "offset")}
        for name, pair in numbers.items():
            if len(pair) != len(AXES) or (name != "offset" and 0 in pair):
                raise NetError(
                    f"label_slice needs {name} twice, for rows and columns, got {list(pair)}."
                )
        for axis, count, step, first in zip(AXES, *numbers.values(), strict=True):
            if (last := first + (count - 1) * step) >= self.side:
                raise NetError(
                    f"label_slice reaches {axis} {last}, but crop_size {self.side} has none beyond"
                    f" {self.side - 1}."
                )
        return LabelSlice(*numbers.values())

    @cached_property
    def files(self) -> LabelMapFiles:
        both = self.data_dir if not (self.image_dir or self.label_dir) else ""
        folders = (self.image_dir or both, self.label_dir or both)
        return LabelMapFiles(
            self.source,
            join_lists(self.source, self.label_list_path, folders),
            Decoder(color=True),
            shuffle=self.shuffle,
        )

    def cut(self) -> Cut:
        return Cut(self.side, self.side)

    def batches_from(self, start: CursorState, transform: Transform, cut: Cut) -> LabelMapBatches:
        return ContextBatches(
            self.files,
            transform,
            batch_size=self.batch_size,
            start=start,
            cut=cut,
            kept=self.kept,
            reflect=self.padding == "REFLECT",
            factors=(self.min_scale, self.max_scale) if self.rand_scale else None,
        )

    def top_shapes(self) -> list[Shape]:
        return super().top_shapes()[:2]
