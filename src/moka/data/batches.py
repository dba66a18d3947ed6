"""Batches of labeled images: records read in order, again and again, decoded, transformed."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence, Sized
from itertools import count, islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from moka.data.ahead import THREADS, map_ahead
from moka.data.decode import Image
from moka.data.place import (
    BATCHES,
    EVERYTHING,
    ITEMS,
    TRANSFORM,
    CursorState,
    Share,
    generator,
)
from moka.data.transform import Draw, Transform
from moka.errors import DataError, MokaError
from moka.types import Shape

R = TypeVar("R")


class Loaded(NamedTuple):
    """Decoded images (C, H, W), possibly in one array, and their labels: (N,), (N, labels), or what
    `ImageBatches.answers` takes."""

    images: Sequence[Image] | Image
    labels: Sequence[Any] | NDArray[np.float32]


class Batch(NamedTuple):
    """A batch of images.

    Attributes:
        data: (N, C, H, W) float32; if `draw` is given, pixels as stored, before the mean is
            subtracted.
        labels: (N,) or (N, labels) float32, or more axes where they are boxes or maps.
        draw: the random choices, if the reader has to do the second half of the transformation.
        more: the tops after the labels, where a source has any.
    """

    data: Image
    labels: NDArray[np.float32]
    draw: Draw | None = None
    more: Sequence[NDArray[np.float32]] = ()


class Drawing:
    """Random choices for the images of a batch, the same however many processes train.

    Args:
        begin: where the round of all processes begins in the data.
        share: the part of it that this process reads.
        batch_size: images a batch.
    """

    def __init__(self, begin: CursorState, share: Share, batch_size: int) -> None:
        self._begin, self._share, self._batch_size = begin, share, batch_size

    def draw(self, transform: Transform, shapes: Sequence[Shape]) -> Draw:
        """The choices for images of these shapes, a part of those for the round of all processes.

        The round's other images are taken to have the shape of the first.
        """
        place, images, part = self._share.drawn_for(self._begin, self._batch_size)
        of_round = [shapes[0]] * images
        of_round[part] = shapes
        return transform.draw(of_round, generator(self._begin.seed, TRANSFORM, place)).part(part)

    def of_round(self) -> np.random.Generator:
        """For choices that all images of a round have in common."""
        place = self._share.drawn_for(self._begin, self._batch_size)[0]
        return generator(self._begin.seed, BATCHES, place)

    def of_items(self) -> Iterator[np.random.Generator]:
        """For choices that are made image by image: one for each in turn, without end."""
        first = self._begin.records_read + self._share.first(self._batch_size)
        places = count(first, self._share.step)
        return (generator(self._begin.seed, ITEMS, place) for place in places)


class Examples(Protocol[R]):
    """Labeled images in an order: the records of a database, the lines of a list.

    Attributes:
        path: the file or folder they come from.
        noun: what one is called, such as "record".
    """

    @property
    def path(self) -> str | os.PathLike[str]: ...

    @property
    def noun(self) -> str: ...

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[R]:
        """Every `step`-th record from number `start` on, over all epochs, without end."""

    def load(self, records: Sequence[R]) -> Loaded:
        """The images of some records. Threads may call it at the same time.

        Raises:
            DataError: a record is damaged; it is named.
        """

    def name(self, record: R) -> str:
        """The name of a record for messages."""


class Batches(Protocol):
    """Batches of images and labels from one data set.

    Attributes:
        transform: what happens to each image.
        image_shape: of the first image after the transformation, (C, H, W).
        label_shape: of the first image's label: (), or (labels,) if it has several.
        start: where a new run begins.
    """

    transform: Transform
    image_shape: Shape
    label_shape: Shape
    start: CursorState

    def stream(
        self, after: CursorState, share: Share = EVERYTHING, *, on_device: bool = False
    ) -> Iterator[tuple[Batch, CursorState]]:
        """Batches from a state on, without end, each with the state after it.

        Args:
            share: the part of the records to read.
            on_device: leave the arithmetic of the transformation to the reader, who does it on a
                device (`Batch.draw`): bytes are faster to move than floats.
        """

    def names(self, after: CursorState, share: Share = EVERYTHING) -> list[str]:
        """Names of the records of the batch before a state, in order; none before the first."""

    def record_count(self) -> int | None:
        """How many records there are, None if that is not known."""


class RecordBatches(ABC, Generic[R]):
    """Batches of the records of a database or a list, made by threads.

    Args:
        examples: the records.
        transform: what happens to each image.
        batch_size: records a batch.
        start: where a new run begins.
    """

    image_shape: Shape
    label_shape: Shape

    def __init__(
        self, examples: Examples[R], transform: Transform, *, batch_size: int, start: CursorState
    ) -> None:
        self.examples = examples
        self.transform = transform
        self.batch_size = batch_size
        self.start = start

    @abstractmethod
    def _batch(self, records: list[R], drawing: Drawing, *, on_device: bool) -> Batch:
        """The batch of some records."""

    def stream(
        self, after: CursorState, share: Share = EVERYTHING, *, on_device: bool = False
    ) -> Iterator[tuple[Batch, CursorState]]:
        """As `Batches.stream`."""
        stride = share.stride(self.batch_size)

        def make(task: tuple[list[R], CursorState]) -> tuple[Batch, CursorState]:
            records, begin = task
            drawing = Drawing(begin, share, self.batch_size)
            return self._batch(records, drawing, on_device=on_device), begin.moved(stride)

        tasks = self._tasks(after.seeded(self.start.seed), share)
        return map_ahead(make, tasks, threads=THREADS, ahead=1)

    def names(self, after: CursorState, share: Share = EVERYTHING) -> list[str]:
        """As `Batches.names`."""
        begin = share.last_batch(after, self.batch_size)
        records = self._records(begin, share) if begin else iter(())
        return [self.examples.name(record) for record in islice(records, self.batch_size)]

    def _records(self, begin: CursorState, share: Share) -> Iterator[R]:
        first = begin.records_read + share.first(self.batch_size)
        return self.examples.records(first, begin.seed, share.step)

    def _tasks(self, begin: CursorState, share: Share) -> Iterator[tuple[list[R], CursorState]]:
        """The records of each batch, and where it begins."""
        records = self._records(begin, share)
        others = (share.size - 1) * self.batch_size if share.whole_batches else 0
        while True:
            yield list(islice(records, self.batch_size)), begin
            next(islice(records, others, others), None)  # pass over the other processes' batches
            begin = begin.moved(share.stride(self.batch_size))

    def record_count(self) -> int | None:
        """How many records there are, None if that is not known."""
        return len(self.examples) if isinstance(self.examples, Sized) else None


class ImageBatches(RecordBatches[R]):
    """Batches of the images of a database or a list. All images of a batch have one size; batches
    may differ.

    Args:
        examples, transform, batch_size, start: see RecordBatches.

    Raises:
        DataError: the first image cannot be read or transformed.
    """

    def __init__(
        self, examples: Examples[R], transform: Transform, *, batch_size: int, start: CursorState
    ) -> None:
        super().__init__(examples, transform, batch_size=batch_size, start=start)
        first = next(examples.records(start.records_read, start.seed))
        drawing = Drawing(start, EVERYTHING, 1)
        images, labels = self.prepared([first], examples.load([first]), drawing)
        self.label_shape = np.shape(labels)[1:]
        self.image_shape = self._out_shape(first, images[0].shape)

    def _batch(self, records: list[R], drawing: Drawing, *, on_device: bool) -> Batch:
        images, labels = self.prepared(records, self.examples.load(records), drawing)
        shapes = [image.shape for image in images]
        self._check(records, shapes)
        draw = drawing.draw(self.transform, shapes)
        answer, *more = self.answers(labels, shapes, draw)
        if on_device:
            return Batch(self.transform.pixels(images, draw), answer, draw, more)
        return Batch(self.transform.apply(images, draw), answer, None, more)

    def prepared(self, records: Sequence[R], loaded: Loaded, drawing: Drawing) -> Loaded:
        """What was loaded of some records, changed as a source of its kind wants it before the
        transformation."""
        return loaded

    def answers(
        self, labels: Sequence[Any] | NDArray[np.float32], shapes: Sequence[Shape], draw: Draw
    ) -> Sequence[NDArray[np.float32]]:
        """The tops after the first, of the labels of images of these shapes and what is drawn for
        them."""
        return [np.array(labels, np.float32)]

    def _check(self, records: list[R], shapes: list[tuple[int, ...]]) -> None:
        """Raises DataError unless the images, of these shapes, fit the transformation and one
        array."""
        sizes = {s: self._out_shape(records[shapes.index(s)], s) for s in dict.fromkeys(shapes)}
        for shape, size in sizes.items():
            if size != sizes[shapes[0]]:
                odd, first = (
                    self.examples.name(records[shapes.index(s)]) for s in (shape, shapes[0])
                )
                raise DataError(
                    f'{self.examples.noun} "{odd}": its image is {shape}, that of "{first}" in the'
                    f" same batch is {shapes[0]}.",
                    file=self.examples.path,
                    advice="Give crop_size, resize the images, or use batch_size: 1.",
                )

    def _out_shape(self, record: R, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape after the transformation. If it does not fit, the error names the record."""
        try:
            return self.transform.out_shape(shape)
        except MokaError as error:
            error.message = f'{self.examples.noun} "{self.examples.name(record)}": {error.message}'
            raise error.at(file=self.examples.path) from None
