"""A run as an event file for TensorBoard, which has to be installed only to look at it.

An event file is a sequence of TFRecords (https://www.tensorflow.org/tutorials/load_data/tfrecord):
length, its checksum, data, its checksum. The data are `Event` messages, of which few fields are
used here: wall_time = 1, step = 2, file_version = 3, summary = 5 { value = 1 { tag = 1,
simple_value = 2 } }.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterable
from ctypes import c_float
from pathlib import Path

from moka.errors import UsageError
from moka.report.record_file import RecordFile
from moka.report.records import IterationCompleted, Output, Record, TestCompleted
from moka.types import PathLike
from moka.varint import varint


class TensorBoard:
    """A listener that writes scalars by iteration: `train/loss_smoothed`, `train/lr`,
    `train/images_per_s` (or `train/iterations_per_s`) and each output of the net as
    `train/<output>` when it is displayed (every iteration if none is), each output of a test as
    `test/<output>`, of further test nets as `test1/<output>`; elements of a vector as
    `<output>/0`, `<output>/1`.

    Args:
        folder: for the event file; made if need be. Every run makes a file of its own.
        images: how many images an iteration takes; 0: the speed is shown in iterations.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(self, folder: PathLike, *, images: int = 0) -> None:
        now = time.time()
        name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}.0"
        self._images = images
        try:
            os.makedirs(folder, exist_ok=True)
            self._file = RecordFile(Path(folder) / name)
            self._file.write(_event(_double(1, now) + _bytes(3, b"brain.Event:2")))
        except OSError as error:
            raise UsageError(
                f"--tensorboard {folder} cannot be written: {error.strerror}."
            ) from None

    def __call__(self, record: Record) -> None:
        match record:
            case IterationCompleted():
                if record.displayed or not record.display_every:
                    self._scalars(record.iteration, self._training(record))
            case TestCompleted():
                phase = f"test{record.net_index or ''}"
                scalars = _outputs(phase, record.outputs)
                if record.loss is not None:
                    scalars.append((f"{phase}/total_loss", record.loss))
                self._scalars(record.iteration, scalars)

    def close(self) -> None:
        self._file.close()

    def _training(self, r: IterationCompleted) -> list[tuple[str, float]]:
        scalars = [("train/loss_smoothed", r.loss), ("train/lr", r.rate)]
        if r.displayed and r.lapse_s and r.lapse_iterations:
            speed = r.lapse_iterations / r.lapse_s
            if self._images:
                scalars.append(("train/images_per_s", speed * self._images))
            else:
                scalars.append(("train/iterations_per_s", speed))
        return scalars + _outputs("train", r.outputs)

    def _scalars(self, step: int, scalars: Iterable[tuple[str, float]]) -> None:
        values = b"".join(
            _bytes(1, _bytes(1, tag.encode()) + _float(2, value)) for tag, value in scalars
        )
        event = _double(1, time.time()) + _integer(2, step) + _bytes(5, values)
        self._file.try_to_write(_event(event))


def _event(data: bytes) -> bytes:
    """A record of the file: an Event message, its length and their checksums."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _outputs(phase: str, outputs: Iterable[Output]) -> list[tuple[str, float]]:
    outputs = list(outputs)
    sizes, seen = Counter(o.name for o in outputs), Counter[str]()
    scalars = []
    for output in outputs:
        element = f"/{seen[output.name]}" if sizes[output.name] > 1 else ""
        seen[output.name] += 1
        scalars.append((f"{phase}/{output.name}{element}", output.value))
    return scalars


# --- protocol buffers: a key is the field's number and how its value is written -------------------


def _integer(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def _double(field: int, value: float) -> bytes:
    return varint(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def _float(field: int, value: float) -> bytes:
    return varint(field << 3 | 5) + bytes(c_float.__ctype_le__(value))  # too great: infinity


# --- checksums: CRC-32C (RFC 3720, section 12.1), masked as TFRecords want it ---------------------


def _table() -> list[int]:
    """The checksum of each byte; the polynomial's bits are reversed."""
    table = list(range(256))
    for _ in range(8):
        table = [c >> 1 ^ (0x82F63B78 if c & 1 else 0) for c in table]
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _checksum(data: bytes) -> bytes:
    crc = crc32c(data)
    masked = (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF
    return struct.pack("<I", masked)
