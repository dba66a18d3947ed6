"""Write the mean of a database's images to a file, for a data layer's `mean_file`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.command.run import run
from moka.data.ahead import map_ahead
from moka.data.annotated import records_of_any
from moka.data.datum import parse_any
from moka.data.records import DatumRecords, KeyValue
from moka.data.store import Store, check_backend, known_count, open_store
from moka.errors import DataError
from moka.files import check_writable
from moka.report.progress import progress
from moka.schema import caffe_pb2, write_binary
from moka.types import PathLike

log = logging.getLogger("moka")
detail = logging.getLogger("moka.detail")

SAY_EVERY = 10000  # records
BLOCK = 16  # records that are summed at a time

Mean = NDArray[np.float64]  # (C, H, W)


def image_mean(store: Store) -> Mean:
    """The mean over all images of a database, (C, H, W): of Datum or AnnotatedDatum records.

    Raises:
        DataError: a record that is none, or an image of another size than the first.
    """
    records = records_of_any(store)
    first = next(store.read())
    total = np.zeros(records.load([first]).images[0].shape)
    each = map_ahead if parse_any(first[1]).datum.encoded else map  # threads only pay for decoding
    sums = each(lambda block: (len(block), _sum(records, block, total.shape)), _blocks(store))
    count = 0
    log.info("Starting iteration")
    with progress("images", known_count(store)) as show:
        for size, block_sum in sums:
            total += block_sum
            before, count = count, count + size
            for said in range(before // SAY_EVERY + 1, count // SAY_EVERY + 1):
                detail.info("Processed %d files.", said * SAY_EVERY)
            show(count)
    if count % SAY_EVERY:
        log.info("Processed %d files.", count)
    return total / count


def _blocks(store: Store) -> Iterator[list[KeyValue]]:
    records = store.read()
    while block := list(islice(records, BLOCK)):
        yield block


def _sum(records: DatumRecords, block: Sequence[KeyValue], shape: tuple[int, ...]) -> Mean:
    """The sum over some records' images, exact while it is below 2^53.

    It adds image by image, while each is still in the processor's cache.
    """
    total = np.zeros(shape)
    for record in block:
        image = records.load([record]).images[0]
        if image.shape != shape:
            raise DataError(
                f'Incorrect data field size {image.size}: record "{records.name(record)}" has'
                f" (channels, height, width) {image.shape}, the first record {shape}.",
                file=records.path,
                advice="Make the database with -resize_height and -resize_width.",
            )
        cv2.accumulate(image.reshape(1, -1), total.reshape(1, -1))
    return total


def mean_blob(mean: Mean) -> caffe_pb2.BlobProto:
    """The mean in its usual form: shape (1, C, H, W) in the fields of 2014."""
    channels, height, width = mean.shape
    blob = caffe_pb2.BlobProto(num=1, channels=channels, height=height, width=width)
    blob.data.extend(mean.astype(np.float32).ravel().tolist())
    return blob


def compute_image_mean(database: PathLike, output: PathLike | None = None) -> Mean:
    """The mean image of a database, (C, H, W); logs the mean of each channel.

    Args:
        output: a file to write it to, for `mean_file`.

    Raises:
        DataError: a database that is missing, empty or broken; images of different sizes.
        OSError: the file cannot be written.
    """
    store = open_store(database)
    if output:
        check_writable(output)
    mean = image_mean(store)
    if output:
        log.info("Write to %s", output)
        write_binary(output, mean_blob(mean))
    log.info("Number of channels: %d", len(mean))
    for channel, value in enumerate(mean.mean((1, 2))):
        log.info("mean_value channel [%d]: %g", channel, value)
    return mean


def main(argv: Sequence[str] | None = None) -> int:
    """`compute_image_mean [FLAGS] INPUT_DB [OUTPUT_FILE]`."""
    return run("compute_image_mean", _compute, argv)


def _compute(words: list[str], flags: dict[str, Any]) -> None:
    check_backend(flags["backend"])
    compute_image_mean(*words)
