"""Images with boxes around their objects, as SSD stores them: AnnotatedDatum records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from moka.data.batches import ImageBatches, Loaded
from moka.data.decode import Decode, Image
from moka.data.place import CursorState
from moka.data.records import DatumRecords, KeyValue
from moka.data.resize_policy import ResizePolicy
from moka.data.store import Store
from moka.data.transform import Draw, Transform
from moka.errors import DataError
from moka.schema import caffe_pb2
from moka.types import Floats, Shape

COLUMNS = 8  # of the second top: item, label, instance, x1, y1, x2, y2, difficult
BOX = slice(2, 6)  # the corners in a row without the item


def rows_of(annotated: caffe_pb2.AnnotatedDatum) -> Floats:
    """The boxes of a record, (G, 7) float32: label, instance, x1, y1, x2, y2, difficult."""
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
    return np.array(rows, np.float32).reshape(-1, COLUMNS - 1)


class AnnotatedRecords(DatumRecords):
    """The AnnotatedDatum records of a store in key order, in an endless loop.

    Args:
        store: the open database, which is not empty.
        decode: makes an image of the bytes of an encoded one.
        policy: how images are resized; None: they are not.
    """

    def __init__(self, store: Store, decode: Decode, policy: ResizePolicy | None) -> None:
        super().__init__(store, decode)
        self.policy = policy

    def load(self, records: Sequence[KeyValue]) -> Loaded:
        """The images, and for each its boxes (G, 7), see `rows_of`."""
        images, boxes = [], []
        for record in records:
            image, rows = self._read(record)
            images.append(image)
            boxes.append(rows)
        return Loaded(images, boxes)

    def _read(self, record: KeyValue) -> tuple[Image, Floats]:
        annotated = caffe_pb2.AnnotatedDatum()
        try:
            annotated.ParseFromString(record[1])
        except DecodeError:
            annotated.Clear()
        if not annotated.HasField("datum"):
            raise self._at(record, DataError("the record is not an AnnotatedDatum."))
        image = self._decode(record, annotated.datum, annotated.datum.data)
        rows = rows_of(annotated)
        if self.policy is not None:
            rows[:, BOX] = self.policy.boxes(rows[:, BOX], *image.shape[1:])
            image = self.policy.image(image)
        return image, rows


class AnnotatedBatches(ImageBatches[KeyValue]):
    """Batches of images and their boxes: labels (1, 1, G, 8), a row for each box of the batch.

    A row is the number of the image in the batch, the label, the instance, x1, y1, x2, y2 as parts
    of the image, and whether the object is difficult. A batch without boxes has a row of -1.

    Args:
        constraint: which boxes a crop keeps; None: those that reach into it.
        examples, transform, batch_size, start: see ImageBatches.
    """

    def __init__(
        self,
        examples: AnnotatedRecords,
        transform: Transform,
        *,
        batch_size: int,
        start: CursorState,
        constraint: caffe_pb2.EmitConstraint | None = None,
    ) -> None:
        super().__init__(examples, transform, batch_size=batch_size, start=start)
        self.constraint = constraint

    def answers(
        self, labels: Sequence[Any] | NDArray[np.float32], shapes: Sequence[Shape], draw: Draw
    ) -> NDArray[np.float32]:
        parts = []
        for item, (rows, shape) in enumerate(zip(labels, shapes, strict=True)):
            kept = self._cropped(rows, shape, int(draw.top[item]), int(draw.left[item]))
            if draw.mirror[item]:
                kept[:, 2], kept[:, 4] = 1 - kept[:, 4], 1 - kept[:, 2]
            parts.append(np.insert(kept, 0, item, axis=1))
        table = np.concatenate(parts).astype(np.float32, copy=False)
        if not len(table):
            table = np.full((1, COLUMNS), -1, np.float32)
        return table[None, None]

    def _cropped(self, rows: Floats, shape: Shape, top: int, left: int) -> Floats:
        """The boxes that a crop keeps, as parts of it."""
        _, height, width = shape
        side = self.transform.crop
        start = np.array([left / width, top / height] * 2, np.float32)
        size = np.array([side / width, side / height] * 2 if side else [1] * 4, np.float32)
        rows = rows[self._emitted(rows[:, BOX], start, start + size)]
        moved = rows.copy()
        moved[:, BOX] = ((rows[:, BOX] - start) / size).clip(0, 1)
        return moved[(moved[:, 4] > moved[:, 2]) & (moved[:, 5] > moved[:, 3])]

    def _emitted(self, boxes: Floats, start: Floats, end: Floats) -> NDArray[np.bool_]:
        """Which boxes the constraint keeps."""
        if self.constraint is None:
            return np.ones(len(boxes), np.bool_)
        if self.constraint.emit_type == caffe_pb2.EmitConstraint.CENTER:
            center = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = (center >= start[:2]) & (center <= end[:2])
            return np.logical_and.reduce(inside, axis=1)
        sides = np.minimum(boxes[:, 2:], end[2:]) - np.maximum(boxes[:, :2], start[:2])
        area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        covered = sides.clip(0).prod(1)
        more: NDArray[np.bool_] = covered > self.constraint.emit_overlap * area
        return more
