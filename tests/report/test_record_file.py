from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest
from tests.disks import Disk, disk

from moka.report.record_file import RecordFile

__all__ = ["disk"]

LINE = b"x" * 1000 + b"\n"


def test_records_are_whole(disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    """One that does not fit is left out; later ones are written again."""
    file = RecordFile(disk.path / "out")
    file.try_to_write(LINE)
    disk.fill()
    for _ in range(10):
        file.try_to_write(LINE)
    disk.clear()
    file.try_to_write(LINE)
    file.close()
    lines = (disk.path / "out").read_bytes().splitlines(keepends=True)
    assert set(lines) == {LINE}
    assert 2 <= len(lines) < 12
    (said,) = caplog.messages
    assert said == (
        f"{disk.path}/out cannot be written: No space left on device. The run goes on, and the file"
        " without what happens meanwhile."
    )


def test_a_piece_that_was_written_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The file says once that it could not be written."""
    write = os.write
    fails = [False]

    def half(file: int, data: bytes) -> int:
        if fails[0] and len(data) < len(LINE):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(file, data[:600] if fails[0] else data)

    monkeypatch.setattr(os, "write", half)
    file = RecordFile(tmp_path / "out")
    for fails[0] in (False, True, True, False, True, False):
        file.try_to_write(LINE)
    file.close()
    assert (tmp_path / "out").read_bytes() == LINE * 3
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1


def test_a_file_that_has_been_begun_goes_on(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"before\n")
    file = RecordFile(tmp_path / "out")
    file.write(b"after\n")
    file.close()
    assert (tmp_path / "out").read_bytes() == b"before\nafter\n"
