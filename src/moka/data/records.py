"""The Datum records of a database as labeled images."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from moka.data import datum
from moka.data.batches import Loaded
from moka.data.decode import Bytes, Decode, Decoder, Image
from moka.data.order import example_indices
from moka.data.store import Store
from moka.errors import DataError, MokaError
from moka.schema import caffe_pb2
from moka.types import PathLike

log = logging.getLogger("moka.detail")

KeyValue = tuple[bytes, bytes]  # key, value


class DatumRecords:
    """The records of a store in key order, in an endless loop, as a Data layer reads them.

    Args:
        store: the open database, which is not empty.
        decode: makes an image of the bytes of an encoded one.
        shuffle: a new order in each epoch instead.
    """

    noun = "record"

    def __init__(
        self, store: Store, decode: Decode | None = None, *, shuffle: bool = False
    ) -> None:
        self.store = store
        self.shuffle = shuffle
        self.decode = decode or Decoder()

    @property
    def path(self) -> PathLike:
        return self.store.path

    def __len__(self) -> int:
        return len(self.store)

    def later_files(self) -> list[str]:
        """No files: the database is open."""
        return []

    def notes(self) -> list[str]:
        """Caffe's log line about the opened database."""
        return [f"Opened {self.store.backend} {self.path}"]

    def name(self, record: KeyValue) -> str:
        return record[0].decode(errors="replace")

    def records(self, start: int, seed: int | None = None, step: int = 1) -> Iterator[KeyValue]:
        if self.shuffle:
            count = len(self.store)
            order = example_indices(count, start, step, shuffle=True, seed=seed)
            yield from self.store.pick(order)
            return
        at = start % len(self.store) if start else 0  # counting may mean reading all
        while True:
            yield from self.store.read(at, step)
            log.info("Restarting data prefetching from start.")
            at = (at - len(self.store)) % step if step > 1 else 0

    def load(self, records: Sequence[KeyValue]) -> Loaded:
        datums, values = zip(*map(self._parse, records), strict=True)
        images: Sequence[Image] | Image | None = datum.decode_raw_batch(datums, values)
        if images is None:
            images = [self._decode(*each) for each in zip(records, datums, values, strict=True)]
        return Loaded(images, self._labels(records, datums))

    def _labels(
        self, records: Sequence[KeyValue], datums: Sequence[caffe_pb2.Datum]
    ) -> Sequence[int] | NDArray[np.float32]:
        if not any(d.labels for d in datums):
            return [d.label for d in datums]
        several = [d.labels or [d.label] for d in datums]
        for record, labels in zip(records, several, strict=True):
            if len(labels) != len(several[0]):
                raise self.at(
                    record,
                    DataError(
                        f'it has {len(labels)} labels, but record "{self.name(records[0])}" has'
                        f" {len(several[0])}."
                    ),
                )
        return np.array(several, np.float32)

    def _parse(self, record: KeyValue) -> tuple[caffe_pb2.Datum, Bytes]:
        try:
            return datum.parse_apart(record[1])
        except MokaError as error:
            raise self.at(record, error) from None

    def _decode(self, record: KeyValue, parsed: caffe_pb2.Datum, data: Bytes) -> Image:
        name = f'{os.fspath(self.path)}: record "{self.name(record)}"'
        try:
            return datum.decode(parsed, data, decode_encoded=self.decode, name=name)
        except MokaError as error:
            raise self.at(record, error) from None

    def at(self, record: KeyValue, error: MokaError) -> MokaError:
        """An error about a record, with its name and the database's."""
        error.message = f'record "{self.name(record)}": {error.message}'
        return error.at(file=self.path)
