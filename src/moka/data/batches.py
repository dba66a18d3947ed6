"""Batches of records from a store: read in order, decode, transform, over and over."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from moka.data import datum
from moka.data.store import Store
from moka.data.transform import Transform
from moka.errors import MokaError
from moka.schema import caffe_pb2

log = logging.getLogger("moka.detail")

Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True)
class CursorState:
    """Where a stream of batches stands: what a resumed run needs to go on with the next record.

    Attributes:
        records_read: since the beginning, over all epochs, skipped ones too.
        random: the state of the generator of crops and mirrors; None before the first draw.
    """

    records_read: int = 0
    random: bytes | None = None


class RecordBatches:
    """What a Data layer reads, as streams of batches.

    Args:
        store: the open database.
        transform: what is done to each image.
        batch_size: records a batch.
        rand_skip: up to this many records are skipped at the beginning, by chance.
        with_labels: whether a batch has labels.

    Raises:
        DataError: the first record cannot be read or transformed.
    """

    def __init__(
        self,
        store: Store,
        transform: Transform,
        *,
        batch_size: int,
        rand_skip: int = 0,
        with_labels: bool = True,
    ) -> None:
        self.store = store
        self.transform = transform
        self.batch_size = batch_size
        self.with_labels = with_labels
        self.start = CursorState(int(torch.randint(rand_skip, ())) if rand_skip else 0)
        self.count = len(store)
        key, value = next(store.read())
        first = self._decode(key, self._parse(key, value))
        try:
            self.image_shape = transform.out_shape(first.shape)
        except MokaError as error:
            raise self._at_record(error, key) from None

    def stream(self, after: CursorState) -> Callable[[], Iterator[tuple[Arrays, CursorState]]]:
        """Batches from a state on, without end, each with the state after it.

        The seed is taken now; the reading happens where the iterator runs.
        """
        seed = int(torch.randint(2**63 - 1, ())) if self.transform.is_random else 0
        return lambda: self._batches(after, np.random.default_rng(seed))

    def _batches(
        self, after: CursorState, rng: np.random.Generator
    ) -> Iterator[tuple[Arrays, CursorState]]:
        if after.random is not None:
            rng.bit_generator.state = json.loads(after.random)
        records = self._records(after.records_read)
        read = after.records_read
        while True:
            arrays = self._batch(list(islice(records, self.batch_size)), rng)
            read += self.batch_size
            state = None
            if self.transform.is_random:
                state = json.dumps(rng.bit_generator.state).encode()
            yield arrays, CursorState(read, state)

    def _records(self, read: int) -> Iterator[tuple[bytes, bytes]]:
        """Records from the one after `read` on, starting over at the end."""
        start = read % self.count
        while True:
            yield from self.store.read(start)
            log.info("Restarting data prefetching from start.")
            start = 0

    def _batch(self, records: list[tuple[bytes, bytes]], rng: np.random.Generator) -> Arrays:
        datums = [self._parse(key, value) for key, value in records]
        images: Sequence[datum.Image] | datum.Image | None = datum.decode_raw_batch(datums)
        if images is None:
            keys = [key for key, _ in records]
            images = [self._decode(k, d) for k, d in zip(keys, datums, strict=True)]
        shapes = [image.shape for image in images]
        try:
            for shape in set(shapes):
                self.transform.out_shape(shape)
            data = self.transform.apply(images, self.transform.draw(shapes, rng))
        except MokaError as error:
            first, last = (records[i][0].decode(errors="replace") for i in (0, -1))
            error.message = f'records "{first}" to "{last}": {error.message}'
            raise error.at(file=self.store.path) from None
        if not self.with_labels:
            return [data]
        return [data, np.array([d.label for d in datums], np.float32)]

    def _parse(self, key: bytes, value: bytes) -> caffe_pb2.Datum:
        try:
            return datum.parse(value)
        except MokaError as error:
            raise self._at_record(error, key) from None

    def _decode(self, key: bytes, record: caffe_pb2.Datum) -> datum.Image:
        try:
            return datum.decode(
                record,
                force_color=self.transform.force_color,
                force_gray=self.transform.force_gray,
            )
        except MokaError as error:
            raise self._at_record(error, key) from None

    def _at_record(self, error: MokaError, key: bytes) -> MokaError:
        error.message = f'record "{key.decode(errors="replace")}": {error.message}'
        return error.at(file=self.store.path)
