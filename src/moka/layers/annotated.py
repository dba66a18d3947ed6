"""The data layer of SSD: images with boxes around their objects."""

from __future__ import annotations

from functools import cached_property

from moka.data.annotated import AnnotatedBatches, AnnotatedRecords
from moka.data.box_augment import BoxAugment
from moka.data.box_rows import COLUMNS, YOLO_BOXES, ssd_table, yolo_table
from moka.data.box_sampler import BatchSamplers, Jitter, PartSampler
from moka.data.place import first_state
from moka.data.store import open_store
from moka.data.transform import Transform
from moka.errors import NetError
from moka.layers.data import DatabaseSource
from moka.layers.options import option
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import Shape

NOT_YET = (*("single_class", "seg_scales", "seg_resize_width", "seg_resize_height"),
           "difficult_label_warmup")  # fmt: skip
YOLO_TABLE = 1  # the only yolo_data_type that MobileNet-YOLO has beside 0


def _table_shape(config: caffe_pb2.LayerParameter, batch_size: int) -> Shape:
    """The shape of the second top, of a batch with one box."""
    if config.annotated_data_param.yolo_data_type == YOLO_TABLE:
        return (batch_size, 1, YOLO_BOXES, 5)
    return (1, 1, 1, COLUMNS + 1)


@layer(
    "AnnotatedData",
    bottoms=0,
    tops=(1, 2),
    source="files",
    stand_in=lambda config, images: (images, _table_shape(config, images[0])),
    shapes_from_data=True,
    fork="SSD",
    drawn=DrawStyle(edge="Batch {batch_size}"),
)
class AnnotatedData(DatabaseSource[AnnotatedBatches]):
    """Images and the boxes of their objects from a database of AnnotatedDatum records.

    Tops: data (batch_size, C, H, W) float, after the transformation; optionally boxes
    (1, 1, G, 8), a row for each of the batch: number of the image in the batch, label, instance,
    x1, y1, x2, y2 as parts of the image, difficult (0 or 1). A batch without boxes has one row of
    -1. With `yolo_data_type: 1` (MobileNet-YOLO) boxes are (batch_size, 1, 300, 5) instead: label
    less 1, center x, center y, width, height, then zeros; `train_diffcult: false` leaves difficult
    objects out. Records with a label and neither a type nor boxes, as convert_annoset
    writes them for classification: labels (batch_size, 1, 1, 1).

    Before the crop an image goes through the steps that its messages ask for, in this order, and
    its boxes with it: `distort_param` changes colors; `expand_param` puts it, with probability
    `prob`, on a canvas of the mean color, up to max_expand_ratio times as large; `batch_sampler`
    (or yolo_data_type's `yolo_data_jitter`) cuts out a random part; `resize_param` (WARP,
    FIT_SMALL_SIZE, FIT_LARGE_SIZE_AND_PAD; one of several interp_mode by chance) resizes it;
    `noise_param` adds noise. Then come crop (`crop_size`, or `crop_h` and `crop_w`), mirror and
    mean. `emit_constraint` says which boxes a cut keeps; without it those that reach into it. Parts
    are whole pixels, so boxes fit them exactly. Of several resize_param one is drawn for each
    batch, of several noise_param one for each image, with probability `prob`; one alone always
    applies. As in SSD the steps belong to the layer, not to the phase.

    SSD encodes images as JPEG between the steps, and distorts encoded records alone; here no step
    loses precision, and all records are distorted.

    Messages: data_param (see Data); annotated_data_param (`label_map_file` and `anno_type` have no
    effect); transform_param. Liu et al., 2016.

    Errors: those of Data; records of another kind; steps out of range, or that an image cannot go
    through.
    """

    batch_sampler: tuple[caffe_pb2.BatchSampler, ...] = option()
    label_map_file: str | None = option()
    anno_type: str | None = option()
    yolo_data_type: int = option()
    yolo_data_jitter: float = option()
    train_diffcult: bool = option()
    resize_param: tuple[caffe_pb2.ResizeParameter, ...] = option(of="transform_param")
    emit_constraint: caffe_pb2.EmitConstraint = option(of="transform_param")
    distort_param: caffe_pb2.DistortionParameter = option(of="transform_param")
    expand_param: caffe_pb2.ExpansionParameter = option(of="transform_param")
    noise_param: tuple[caffe_pb2.NoiseParameter, ...] = option(of="transform_param")
    crop_h: int = option(of="transform_param")
    crop_w: int = option(of="transform_param")

    def setup(self) -> None:
        super().setup()
        for name in NOT_YET:
            if self.config.annotated_data_param.HasField(name):
                raise NetError(f"annotated_data_param {{ {name} }} is not supported.")
        if self.yolo_data_type not in (0, YOLO_TABLE):
            raise NetError(f"yolo_data_type is 0 or {YOLO_TABLE}, got {self.yolo_data_type}.")
        self.augment = BoxAugment(self.config.transform_param, self._sampler())

    def _sampler(self) -> PartSampler | None:
        if self.batch_sampler:
            return BatchSamplers(self.batch_sampler)
        return Jitter(self.yolo_data_jitter) if self.yolo_data_type == YOLO_TABLE else None

    @cached_property
    def records(self) -> AnnotatedRecords:
        return AnnotatedRecords(open_store(self.source, self.backend), self.decoder())

    def make_transform(self) -> Transform:
        fields = caffe_pb2.TransformationParameter()
        fields.CopyFrom(self.config.transform_param)
        fields.ClearField("resize_param")  # which `augment` applies
        return Transform(fields, training=self.config.phase == caffe_pb2.TRAIN)

    def open(self) -> AnnotatedBatches:
        transform = self.make_transform()
        if transform.augment.changes_geometry:
            raise NetError("transform_param resizes, cuts or turns images, but not their boxes.",
                           advice="Give resize_param instead.")  # fmt: skip
        is_random = transform.is_random or self.augment.is_random
        return AnnotatedBatches(
            self.records,
            transform,
            batch_size=self.batch_size,
            start=first_state(rand_skip=self.rand_skip, is_random=is_random),
            augment=self.augment,
            table=yolo_table if self.yolo_data_type == YOLO_TABLE else ssd_table,
            difficult=self.train_diffcult or self.yolo_data_type != YOLO_TABLE,
        )

    def top_shapes(self) -> list[Shape]:
        images = (self.batch_size, *self.batches.image_shape)
        labels = (self.batch_size, 1, 1, 1)
        table = _table_shape(self.config, self.batch_size)
        shapes = [images, labels if self.records.of_labels else table]
        return shapes[: self.top_count]
