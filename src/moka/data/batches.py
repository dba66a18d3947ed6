"""Batches of labelled images: read in order, load, transform, over and over.

What is random about the data (skipping, order, crops, mirrors) is a function of one seed and of the
place in the data. So a position and a seed are all that a run needs to go on exactly.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from moka.data.datum import Image
from moka.data.transform import Transform
from moka.errors import MokaError

Arrays = list[NDArray[np.float32]]
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

    def records(self, start: int, seed: int | None) -> Iterator[R]:
        """Records from number `start` on, over all epochs, without end."""

    def load(self, records: Sequence[R]) -> Loaded:
        """The images of some records. Raises DataError with the name of a broken one."""

    def name(self, record: R) -> str:
        """What to call a record in a message."""


class Batches(Protocol):
    """Streams of batches of one kind.

    Attributes:
        transform: what is done to each image.
        image_shape: of the first image after it, (C, H, W).
        label_shape: of the first image's label: (), or (labels,) if it has several.
        start: where a new run begins.
    """

    transform: Transform
    image_shape: tuple[int, ...]
    label_shape: tuple[int, ...]
    start: CursorState

    def stream(self, after: CursorState) -> Iterator[tuple[Arrays, CursorState]]:
        """Batches of images and labels from a state on, without end, each with the state after."""

    def names(self, after: CursorState) -> list[str]:
        """What the records of the batch before this state are called, in order."""


class ImageBatches(Generic[R]):
    """Batches of the images of a database or a list.

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
        first = next(examples.records(start.records_read, start.seed))
        images, labels = examples.load([first])
        self.label_shape = np.shape(labels)[1:]
        try:
            self.image_shape = transform.out_shape(images[0].shape)
        except MokaError as error:
            error.message = f'{examples.noun} "{examples.name(first)}": {error.message}'
            raise error.at(file=examples.path) from None

    def stream(self, after: CursorState) -> Iterator[tuple[Arrays, CursorState]]:
        read = after.records_read
        seed = self.start.seed if after.seed is None else after.seed
        records = self.examples.records(read, seed)
        while True:
            rng = generator(seed, TRANSFORM, read)
            arrays = self._batch(list(islice(records, self.batch_size)), rng)
            read += self.batch_size
            yield arrays, CursorState(read, seed)

    def names(self, after: CursorState) -> list[str]:
        first = max(0, after.records_read - self.batch_size)
        records = self.examples.records(first, after.seed)
        return [self.examples.name(r) for r in islice(records, after.records_read - first)]

    def _batch(self, records: list[R], rng: np.random.Generator) -> Arrays:
        images, labels = self.examples.load(records)
        shapes = [image.shape for image in images]
        try:
            for shape in set(shapes):
                self.transform.out_shape(shape)
            data = self.transform.apply(images, self.transform.draw(shapes, rng))
        except MokaError as error:
            first, last = (self.examples.name(records[i]) for i in (0, -1))
            error.message = f'{self.examples.noun}s "{first}" to "{last}": {error.message}'
            raise error.at(file=self.examples.path) from None
        return [data, np.array(labels, np.float32)]
