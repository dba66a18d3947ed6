"""The data layer of YOLO's first ports to Caffe."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial

from moka.data.box_records import (
    MOST_BOXES,
    BoxBatches,
    BoxRecords,
    Table,
    list_of_boxes,
    map_of_boxes,
)
from moka.data.place import first_state
from moka.data.store import open_store
from moka.errors import NetError
from moka.layers.data import DatabaseSource
from moka.layers.options import option, positive
from moka.layers.registry import DrawStyle, layer
from moka.schema import caffe_pb2
from moka.types import Shape

FIRST_SIDE = 7  # of YOLOv1
SECOND_SIDE = 13  # the least side that means YOLOv2


def _shapes(config: caffe_pb2.LayerParameter, images: Shape) -> list[Shape]:
    labels: list[Shape] = [
        (images[0], 5 * MOST_BOXES if side >= SECOND_SIDE else 7 * side * side)
        for side in config.data_param.side or [FIRST_SIDE]
    ]
    return [images, *labels][: len(config.top)]


@layer(
    "BoxData",
    bottoms=0,
    tops=(1, None),
    source="files",
    stand_in=_shapes,
    fork="YOLO on Caffe",
    drawn=DrawStyle(edge="Batch {batch_size}"),
)
class BoxData(DatabaseSource[BoxBatches]):
    """Images and the boxes of their objects from a database of Datum records, in key order, over
    and over. `float_data` of a record holds for each object: class from 0 on, difficult, center x,
    center y, width and height as parts of the image.

    Tops: data (batch_size, C, H, W) float; optionally boxes for each `side` (default 7). Below 13,
    as in YOLOv1, they are (batch_size, 7 L) for L = side x side cells: difficult, whether there is
    an object, its class or -1, and x, y, w, h. From 13 on, as in YOLOv2, they are (batch_size,
    150): class, x, y, w, h of up to 30 objects, then zeros. In training a random part of each
    image, 0.71 to 1 of its sides, is stretched to the image's size. Messages: data_param (see
    Data), transform_param, which may not crop. (The forks do not mirror boxes; here they follow the
    image.)

    Errors: those of Data; records of another kind; a crop; another number of tops than of sides.
    """

    side: tuple[int, ...] = option(positive, of="data_param")

    def setup(self) -> None:
        super().setup()
        sides = self.side or (FIRST_SIDE,)
        if self.top_count not in (1, 1 + len(sides)):
            raise NetError(
                f"side num not equal to top size: {len(sides)} for {self.top_count - 1}."
            )
        self.sides = sides

    @cached_property
    def records(self) -> BoxRecords:
        return BoxRecords(open_store(self.source, self.backend), self.decoder())

    def _tables(self) -> Sequence[Table]:
        return [
            list_of_boxes if side >= SECOND_SIDE else partial(map_of_boxes, side=side)
            for side in self.sides
        ]

    def open(self) -> BoxBatches:
        transform = self.make_transform()
        if transform.crop or transform.augment.changes_geometry:
            raise NetError("transform_param resizes, cuts or turns images, but not their boxes.")
        return BoxBatches(
            self.records,
            transform,
            batch_size=self.batch_size,
            start=first_state(
                rand_skip=self.rand_skip, is_random=transform.is_random or transform.training
            ),
            tables=self._tables(),
        )

    def top_shapes(self) -> list[Shape]:
        return _shapes(self.config, (self.batch_size, *self.batches.image_shape))
