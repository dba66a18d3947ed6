"""Batches of labelled images: read in order, load, transform, over and over.

What is random about the data (skipping, order, crops, mirrors) is a function of one seed and of the
place in the data. So a position and a seed are all that a run needs to go on exactly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from moka.data.ahead import THREADS, map_ahead
from moka.data.datum import Image
from moka.data.transform import Draw, Transform
from moka.errors import DataError, MokaError

R = TypeVar("R")

TRANSFORM, ORDER, WINDOWS = range(3)  # what random numbers are for, see `generator`


@dataclass(frozen=True)
class CursorState:
    """Where a stream of batches stands: what a resumed run needs to go on with the next record.

    Attributes:
        records_read: since the beginning, over all epochs, skipped ones too.
        seed: of all that is random about the data; None: nothing is.
    """

    records_read: int = 0
    seed: int | None = None


def first_state(*, rand_skip: int = 0, is_random: bool) -> CursorState:
    """Where a new run begins: after up to `rand_skip` records, by chance, with a seed of its own.

    Both are drawn from torch's generator, so `random_seed` decides them.
    """
    skipped = int(torch.randint(rand_skip, ())) if rand_skip else 0
    return CursorState(skipped, draw_seed() if is_random else None)


def draw_seed() -> int:
    """A seed for random data, from torch's generator."""
    return int(torch.randint(2**63 - 1, ()))


def generator(seed: int | None, purpose: int, place: int) -> np.random.Generator:
    """Random numbers that belong to a place in the data: drawn there again, they are the same.

    Args:
        seed: of the run; None where nothing is drawn.
        purpose: TRANSFORM, ORDER or WINDOWS, whose numbers have nothing to do with each other.
        place: number of the epoch, or of the records before.
    """
    return np.random.default_rng(np.random.SeedSequence(seed or 0, spawn_key=(purpose, place)))


class Loaded(NamedTuple):
    """Images (C, H, W), in one array if they come in one, and their labels, (N,) or (N, labels)."""

    images: Sequence[Image] | Image
    labels: Sequence[int] | NDArray[np.float32]


class Share(NamedTuple):
    """Which of the records a process reads: number `rank`, and then every `size`-th."""

    rank: int = 0
    size: int = 1  # how many processes there are


class Batch(NamedTuple):
    """A batch of images.

    Attributes:
        data: (N, C, H, W) float32; pixels as they are stored if `draw` is given.
        labels: (N,) or (N, labels) float32.
        draw: what the second half of the transformation needs, where the reader has to do it.
    """

    data: Image
    labels: NDArray[np.float32]
    draw: Draw | None = None


class Examples(Protocol[R]):
    """Labelled images in an order: the records of a database, the lines of a list.

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
        """The images of some records. Several threads may ask at once.

        Raises:
            DataError: with the name of a broken record.
        """

    def name(self, record: R) -> str:
        """What to call a record in a message."""


class Batches(Protocol):
    """Streams of batches of one kind.

    Attributes:
        transform: what is done to each image.
        image_shape: of the first image after it, (C, H, W).
        label_shape: of the first image's label: (), or (labels,) if it has several.
        start: where a new run begins.
        share: which part of the records is read.
        leave_arithmetic: hand out bytes, for the reader to make floats of (`Batch.draw`).
    """

    transform: Transform
    image_shape: tuple[int, ...]
    label_shape: tuple[int, ...]
    start: CursorState
    share: Share
    leave_arithmetic: bool

    def stream(self, after: CursorState) -> Iterator[tuple[Batch, CursorState]]:
        """Batches from a state on, without end, each with the state after it."""

    def names(self, after: CursorState) -> list[str]:
        """What the records of the batch before this state are called, in order."""


class ImageBatches(Generic[R]):
    """Batches of the images of a database or a list, made by threads.

    Args:
        examples: the images.
        transform: what is done to each image.
        batch_size: images a batch. They have one size; that of another batch may differ.
        start: where a new run begins.

    Raises:
        DataError: the first image cannot be read or transformed.
    """

    def __init__(
        self, examples: Examples[R], transform: Transform, *, batch_size: int, start: CursorState
    ) -> None:
        self.examples = examples
        self.transform = transform
        self.batch_size = batch_size
        self.start = start
        self.share = Share()
        self.leave_arithmetic = False
        first = next(examples.records(start.records_read, start.seed))
        images, labels = examples.load([first])
        self.label_shape = np.shape(labels)[1:]
        self.image_shape = self._out_shape(first, images[0].shape)

    def stream(self, after: CursorState) -> Iterator[tuple[Batch, CursorState]]:
        return map_ahead(self._make, self._tasks(after), threads=THREADS, ahead=1)

    def names(self, after: CursorState) -> list[str]:
        """As `Batches.names`; none before the first batch."""
        begin = after.records_read - self._stride
        if begin < 0:
            return []
        return [
            self.examples.name(r) for r in islice(self._records(begin, after.seed), self.batch_size)
        ]

    @property
    def _stride(self) -> int:
        """Records that all processes together read for a batch each."""
        return self.batch_size * self.share.size

    def _records(self, begin: int, seed: int | None) -> Iterator[R]:
        return self.examples.records(begin + self.share.rank, seed, self.share.size)

    def _tasks(self, after: CursorState) -> Iterator[tuple[list[R], CursorState]]:
        """The records of each batch, and where it begins."""
        seed = self.start.seed if after.seed is None else after.seed
        records = self._records(after.records_read, seed)
        for begin in count(after.records_read, self._stride):
            yield list(islice(records, self.batch_size)), CursorState(begin, seed)

    def _make(self, task: tuple[list[R], CursorState]) -> tuple[Batch, CursorState]:
        records, begin = task
        rng = generator(begin.seed, TRANSFORM, begin.records_read + self.share.rank)
        return self._batch(records, rng), CursorState(begin.records_read + self._stride, begin.seed)

    def _batch(self, records: list[R], rng: np.random.Generator) -> Batch:
        images, labels = self.examples.load(records)
        shapes = [image.shape for image in images]
        self._check(records, shapes)
        draw = self.transform.draw(shapes, rng)
        pixels = self.transform.pixels(images, draw)
        answers = np.array(labels, np.float32)
        if self.leave_arithmetic:
            return Batch(pixels, answers, draw)
        return Batch(self.transform.normalize(pixels, draw), answers)

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
        """Shape after the transformation; the record is named where there is none."""
        try:
            return self.transform.out_shape(shape)
        except MokaError as error:
            error.message = f'{self.examples.noun} "{self.examples.name(record)}": {error.message}'
            raise error.at(file=self.examples.path) from None
