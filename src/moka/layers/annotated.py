"""The data layer of SSD: images with boxes around their objects."""

from __future__ import annotations

from functools import cached_property

from moka.data.annotated import COLUMNS, AnnotatedBatches, AnnotatedRecords
from moka.data.decode import Decoder
from moka.data.place import first_state
from moka.data.resize_policy import ResizePolicy
from moka.data.store import open_store
from moka.errors import NetError
from moka.layers.data import ImageSource
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import Shape

AUGMENTATIONS = ("distort_param", "expand_param", "noise_param", "crop_h", "crop_w")


@layer(
    "AnnotatedData",
    bottoms=0,
    tops=(1, 2),
    source="files",
    shapes_from_data=True,
    fork="SSD",
    drawn=DrawStyle(edge="Batch {batch_size}"),
)
class AnnotatedData(ImageSource[AnnotatedBatches]):
    """Images and the boxes of their objects from a database of AnnotatedDatum records.

    Tops: data (batch_size, C, H, W) float, after the transformation; optionally boxes
    (1, 1, G, 8), a row for each of the batch: number of the image in the batch, label, instance,
    x1, y1, x2, y2 as parts of the image, difficult (0 or 1). A batch without boxes has one row of
    -1. Messages: data_param (see Data); annotated_data_param (`label_map_file` and `anno_type`
    have no effect); transform_param, of which `resize_param` (WARP, FIT_SMALL_SIZE or
    FIT_LARGE_SIZE_AND_PAD) comes before the crop, and `emit_constraint` says which boxes a crop
    keeps. `batch_sampler`, `distort_param`, `expand_param` and `noise_param`, which augment
    images in training, are not supported. Liu et al., 2016.

    Errors: those of Data; records of another kind; an option that is not supported.
    """

    source: str = option(of="data_param", default="")
    batch_size: int = option(positive, of="data_param", required=True)
    backend: str = option(of="data_param")
    rand_skip: int = option(not_negative, of="data_param")
    batch_sampler: tuple[caffe_pb2.BatchSampler, ...] = option()
    label_map_file: str | None = option()
    anno_type: str | None = option()
    resize_param: tuple[caffe_pb2.ResizeParameter, ...] = option(of="transform_param")
    emit_constraint: caffe_pb2.EmitConstraint = option(of="transform_param")
    distort_param: caffe_pb2.DistortionParameter = option(of="transform_param")
    expand_param: caffe_pb2.ExpansionParameter = option(of="transform_param")
    noise_param: tuple[caffe_pb2.NoiseParameter, ...] = option(of="transform_param")
    crop_h: int = option(of="transform_param")
    crop_w: int = option(of="transform_param")

    def setup(self) -> None:
        super().setup()
        own = self.config.annotated_data_param
        for field, _ in own.ListFields():
            if field.name not in ("label_map_file", "anno_type"):
                raise NetError(
                    f"annotated_data_param {{ {field.name} }} is not supported: it augments images"
                    " in training, or asks for other labels.",
                    advice="Leave it out, or run a net for testing, which does without it.",
                )
        for field, _ in self.config.transform_param.ListFields():
            if field.name in AUGMENTATIONS:
                raise NetError(
                    f"transform_param {{ {field.name} }} is not supported: it augments images in"
                    " training.",
                    advice="Leave it out, or run a net for testing, which does without it.",
                )
        if len(self.resize_param) > 1:
            raise NetError(f"resize_param is given once, got {len(self.resize_param)}.")
        self.policy = ResizePolicy(self.resize_param[0]) if self.resize_param else None

    @cached_property
    def records(self) -> AnnotatedRecords:
        """The database, opened."""
        fields = self.config.transform_param
        color = True if fields.force_color else False if fields.force_gray else None
        store = open_store(self.source, self.backend)
        return AnnotatedRecords(store, Decoder(color=color), self.policy)

    def open(self) -> AnnotatedBatches:
        transform = self.make_transform()
        if transform.augment.changes_geometry:
            raise NetError("transform_param resizes, cuts or turns images, but not their boxes.",
                           advice="Give resize_param instead.")  # fmt: skip
        param = self.config.transform_param
        return AnnotatedBatches(
            self.records,
            transform,
            batch_size=self.batch_size,
            start=first_state(rand_skip=self.rand_skip, is_random=transform.is_random),
            constraint=param.emit_constraint if param.HasField("emit_constraint") else None,
        )

    def top_shapes(self) -> list[Shape]:
        shapes = [(self.batch_size, *self.batches.image_shape), (1, 1, 1, COLUMNS)]
        return shapes[: self.top_count]

    def opened_notes(self) -> list[str]:
        return [
            *self.records.notes(),
            *self.mean_note(self.batches.transform),
            self.size_note(),
        ]
