from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from moka.files import check_writable, write_atomically


def test_a_new_file(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "a"
    target.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"new")
        file.flush()
        assert target.read_bytes() == b"old"

    write_atomically(target, write)
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), ValueError("bug")])
@pytest.mark.parametrize("old", [None, b"old"])
def test_after_an_error_all_is_as_before(
    tmp_path: Path, error: BaseException, old: bytes | None
) -> None:
    target = tmp_path / "a"
    if old is not None:
        target.write_bytes(old)

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, write)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == ({"a": old} if old else {})


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "a", lambda file: file.write(b"x"))


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    left = {name: tmp_path / f".{name}.part" for name in
            (f"a[1].{ended.pid}", f"a[1].{os.getppid()}", f"b.{ended.pid}", "a[1].x")}  # fmt: skip
    for path in left.values():
        path.touch()
    write_atomically(tmp_path / "a[1]", lambda file: file.write(b"x"))
    gone = {name for name, path in left.items() if not path.exists()}
    assert gone == {f"a[1].{ended.pid}"}


def test_whether_a_file_can_be_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a")
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError) as caught:
        check_writable(tmp_path / "gone" / "a")
    assert caught.value.filename == str(tmp_path / "gone" / "a")
