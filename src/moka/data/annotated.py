"""Images with boxes around their objects, as SSD stores them: AnnotatedDatum records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from moka.data.batches import Drawing, ImageBatches, Loaded
from moka.data.box_augment import BoxAugment
from moka.data.box_rows import COLUMNS, CORNERS, cut_rows, mirror_rows, ssd_table
from moka.data.datum import parse_any
from moka.data.decode import Image
from moka.data.place import CursorState
from moka.data.records import DatumRecords, KeyValue
from moka.data.store import Store
from moka.data.transform import Draw, Transform
from moka.errors import DataError, MokaError
from moka.schema import caffe_pb2
from moka.types import Floats, Shape


def rows_of(annotated: caffe_pb2.AnnotatedDatum) -> Floats:
    """The boxes of a record as rows, (G, 7) float32: see `moka.data.box_rows`."""
    rows = [
        (
            group.group_label,
            each.instance_id,
            each.bbox.xmin,
            each.bbox.ymin,
            each.bbox.xmax,
            each.bbox.ymax,
            each.bbox.difficult,
        )
        for group in annotated.annotation_group
        for each in group.annotation
    ]
    return np.array(rows, np.float32).reshape(-1, COLUMNS)


class AnnotatedRecords(DatumRecords):
    """The AnnotatedDatum records of a store in key order, in an endless loop."""

    @cached_property
    def of_labels(self) -> bool:
        """Whether the records have a label each in place of boxes, as SSD's for classification: the
        first one has a label, but no type and no boxes."""
        first = self._parse_annotated(next(self.store.read()))
        is_of_boxes = first.HasField("type") or first.annotation_group
        return first.datum.HasField("label") and not is_of_boxes

    def load(self, records: Sequence[KeyValue]) -> Loaded:
        """The images, and for each its rows (G, 7), see `rows_of`, or its label."""
        images, truths = zip(*map(self._read, records), strict=True)
        return Loaded(images, truths)

    def _read(self, record: KeyValue) -> tuple[Image, Floats | float]:
        annotated = self._parse_annotated(record)
        image = self._decode(record, annotated.datum, annotated.datum.data)
        if not self.of_labels:
            return image, rows_of(annotated)
        if not annotated.datum.HasField("label"):
            raise self.at(record, DataError("it has no label, as the first record has."))
        return image, float(annotated.datum.label)

    def _parse_annotated(self, record: KeyValue) -> caffe_pb2.AnnotatedDatum:
        annotated = caffe_pb2.AnnotatedDatum()
        try:
            annotated.ParseFromString(record[1])
        except DecodeError:
            annotated.Clear()
        if not annotated.HasField("datum"):
            raise self.at(record, DataError("the record is not an AnnotatedDatum."))
        return annotated


def records_of_any(store: Store) -> DatumRecords:
    """The records of a store whose first is a Datum, or an AnnotatedDatum."""
    _, first = next(store.read())
    try:
        annotated = parse_any(first).annotated is not None
    except DataError:
        annotated = False  # DatumRecords names the record that is none
    return AnnotatedRecords(store) if annotated else DatumRecords(store)


@dataclass(frozen=True)
class ResizedRows:
    """The rows of an image, and the pixels (height, width) that the net wants its boxes as parts of
    in the end, if those are not the image's."""

    rows: Floats
    unit: tuple[int, int] | None


class AnnotatedBatches(ImageBatches[KeyValue]):
    """Batches of images and the table of their boxes, or their labels (N, 1, 1, 1).

    Args:
        augment: what happens to images and boxes before the crop.
        table: makes the second top of the rows of each image: `ssd_table` or `yolo_table`.
        difficult: whether rows of difficult objects are kept.
        examples, transform, batch_size, start: see ImageBatches.
    """

    def __init__(
        self,
        examples: AnnotatedRecords,
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        augment: BoxAugment,
        table: Callable[[Sequence[Floats]], Floats] = ssd_table,
        difficult: bool = True,
    ) -> None:
        self.augment = augment
        self.table = table
        self.difficult = difficult
        mean = transform.mean_values.ravel()
        self._mean = mean if transform.mean_image is None else transform.mean_image.mean((1, 2))
        self._at = examples.at
        self._of_labels = examples.of_labels
        super().__init__(examples, transform, batch_size=batch_size, start=start)

    def prepared(self, records: Sequence[KeyValue], loaded: Loaded, drawing: Drawing) -> Loaded:
        """The images after `augment`, and for each its ResizedRows, or its label."""
        policy = self.augment.draw_policy(drawing.of_round())
        images, truths = [], []
        for record, image, truth, rng in zip(records, *loaded, drawing.of_items(), strict=False):
            rows = np.empty((0, COLUMNS), np.float32) if self._of_labels else truth
            try:
                image, rows = self.augment.apply(image, rows, policy, self._mean, rng)
            except MokaError as error:
                raise self._at(record, error) from None
            images.append(image)
            resized = ResizedRows(rows, policy.unit if policy else None)
            truths.append(truth if self._of_labels else resized)
        return Loaded(images, truths)

    def answers(
        self, labels: Sequence[Any] | NDArray[np.float32], shapes: Sequence[Shape], draw: Draw
    ) -> list[Floats]:
        if self._of_labels:
            return [np.array(labels, np.float32).reshape(-1, 1, 1, 1)]
        kept = []
        for item, (resized, shape) in enumerate(zip(labels, shapes, strict=True)):
            rows = self._cropped(resized, shape, int(draw.top[item]), int(draw.left[item]))
            rows = mirror_rows(rows) if draw.mirror[item] else rows
            kept.append(rows if self.difficult else rows[rows[:, -1] == 0])
        return [self.table(kept)]

    def _cropped(self, resized: ResizedRows, shape: Shape, top: int, left: int) -> Floats:
        """The rows that the crop keeps.

        Raises:
            DataError: a crop smaller than the unit.
        """
        _, height, width = shape
        high, wide = self.transform.crop or (height, width)
        part = np.array(
            [left / width, top / height, (left + wide) / width, (top + high) / height], np.float32
        )
        rows = cut_rows(resized.rows, part, self.augment.constraint)
        if resized.unit is not None:
            unit_height, unit_width = resized.unit
            if high < unit_height or wide < unit_width:
                raise DataError(
                    f"height_scale and width_scale, {unit_height} x {unit_width}, are more than the"
                    f" image's {high} x {wide} pixels."
                )
            rows[:, CORNERS] *= np.tile([wide / unit_width, high / unit_height], 2)
        return rows
