from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from moka.errors import UsageError
from moka.report.records import (
    IterationCompleted,
    Output,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
)
from moka.report.tensorboard import TensorBoard, crc32c

Scalars = dict[str, list[tuple[int, float]]]
LOSS = Output("loss", 0.25, 1.0)


def slow_crc32c(data: bytes) -> int:
    """Bit by bit, most significant first; the bits of each byte and of the result are mirrored."""
    crc = 0xFFFFFFFF
    for byte in data:
        for bit in range(8):
            top = crc >> 31 ^ (byte >> bit & 1)
            crc = (crc << 1 & 0xFFFFFFFF) ^ (0x1EDC6F41 if top else 0)
    return int(f"{crc ^ 0xFFFFFFFF:032b}"[::-1], 2)


def masked(data: bytes) -> int:
    crc = slow_crc32c(data)
    return (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) % 2**32


def event_class() -> Any:
    """The messages of event files, as far as they are used here."""
    file = descriptor_pb2.FileDescriptorProto(name="event.proto", package="e", syntax="proto3")
    kinds = descriptor_pb2.FieldDescriptorProto
    wanted: dict[str, list[tuple[str, int, Any]]] = {
        "Value": [("tag", 1, kinds.TYPE_STRING), ("simple_value", 2, kinds.TYPE_FLOAT)],
        "Summary": [("value", 1, "Value")],
        "Event": [
            ("wall_time", 1, kinds.TYPE_DOUBLE),
            ("step", 2, kinds.TYPE_INT64),
            ("file_version", 3, kinds.TYPE_STRING),
            ("summary", 5, "Summary"),
        ],
    }
    for name, fields in wanted.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".e.{kind}"
                added.label = kinds.LABEL_REPEATED if field == "value" else kinds.LABEL_OPTIONAL
            else:
                added.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("e.Event"))


EVENT = event_class()


def events(folder: Path) -> Iterator[Any]:
    """What the one event file of a folder holds; its checksums are right."""
    (file,) = folder.iterdir()
    assert re.fullmatch(r"events\.out\.tfevents\.\d{10}\..+", file.name)
    rest = file.read_bytes()
    while rest:
        length, check = struct.unpack("<QI", rest[:12])
        assert check == masked(rest[:8])
        data, check = rest[12 : 12 + length], rest[12 + length : 16 + length]
        assert struct.unpack("<I", check)[0] == masked(data)
        yield EVENT.FromString(data)
        rest = rest[16 + length :]


def scalars(folder: Path) -> Scalars:
    found: Scalars = {}
    for event in events(folder):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def test_a_run(tmp_path: Path) -> None:
    began = time.time()
    report = TensorBoard(tmp_path / "made" / "here", images=64)
    report(SolvingStarted("x", "inv", 0, 10))
    outputs = (Output("acc", 0.5, 0.0), LOSS)
    report(TestCompleted(0, 0, outputs, None))
    report(TestCompleted(0, 1, outputs, 0.75))
    report(IterationCompleted(0, 2.0, 0.5, displayed=True, outputs=(LOSS,), display_every=300))
    report(IterationCompleted(1, 9.0, 0.5, display_every=300))
    report(
        IterationCompleted(
            300, 1.5, 0.25, True, (LOSS,), lapse_s=2.0, lapse_iterations=300, display_every=300
        )
    )
    assert scalars(tmp_path / "made" / "here") == {  # before it is closed
        "test/acc": [(0, 0.5)],
        "test/loss": [(0, 0.25)],
        "test1/acc": [(0, 0.5)],
        "test1/loss": [(0, 0.25)],
        "test1/total_loss": [(0, 0.75)],
        "train/loss_smoothed": [(0, 2.0), (300, 1.5)],
        "train/lr": [(0, 0.5), (300, 0.25)],
        "train/loss": [(0, 0.25), (300, 0.25)],
        "train/images_per_s": [(300, 9600.0)],
    }
    report(SolvingCompleted(300, False, 1.0, 0.0))
    report.close()
    first, *others = events(tmp_path / "made" / "here")
    assert first.file_version == "brain.Event:2"
    assert all(began - 1 <= event.wall_time <= time.time() for event in [first, *others])


def test_every_iteration_if_none_is_displayed(tmp_path: Path) -> None:
    report = TensorBoard(tmp_path)
    for i in range(3):
        report(IterationCompleted(i, float(i), 0.5))
    report.close()
    assert scalars(tmp_path)["train/loss_smoothed"] == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_speed_in_iterations(tmp_path: Path) -> None:
    report = TensorBoard(tmp_path)
    report(IterationCompleted(8, 1.0, 0.5, True, lapse_s=2.0, lapse_iterations=8, display_every=8))
    report.close()
    assert scalars(tmp_path)["train/iterations_per_s"] == [(8, 4.0)]


def test_elements_of_a_vector(tmp_path: Path) -> None:
    report = TensorBoard(tmp_path)
    outputs = tuple(Output(name, v, 0.0) for name, v in (("a", 1.0), ("b", 2.0), ("a", 3.0)))
    report(TestCompleted(5, 0, outputs, None))
    report.close()
    assert scalars(tmp_path) == {
        "test/a/0": [(5, 1.0)],
        "test/b": [(5, 2.0)],
        "test/a/1": [(5, 3.0)],
    }


def test_numbers_too_great_for_single_precision(tmp_path: Path) -> None:
    report = TensorBoard(tmp_path)
    report(IterationCompleted(1, 1e300, 0.5))
    report.close()
    assert scalars(tmp_path)["train/loss_smoothed"] == [(1, float("inf"))]


@pytest.mark.parametrize("data", [b"", b"\x00", b"123456789", bytes(range(256))])
def test_crc32c(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)
    if data == b"123456789":
        assert crc32c(data) == 0xE3069283  # the check value of the literature


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        UsageError, match=r"^--tensorboard .* cannot be written: Not a directory\.$"
    ):
        TensorBoard(tmp_path / "file" / "folder")
