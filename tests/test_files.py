from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO
from unittest.mock import Mock

import pytest

from moka.files import (
    check_writable,
    decode_text,
    local_path,
    read_bytes,
    read_text_file,
    write_atomically,
    write_folder_aside,
    write_text_file,
)

TEXT = "é.jpg 1\r\nb.jpg 2\n"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_text_in_any_encoding_of_unicode(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes(TEXT.encode(encoding))
    assert read_text_file(tmp_path / "list.txt") == TEXT


def test_a_text_that_is_written_is_read(tmp_path: Path) -> None:
    text = "caf\xe9 \u732b\udce9\nb.jpg 2\r\n"
    write_text_file(tmp_path / "list.txt", text)
    assert (tmp_path / "list.txt").read_bytes() == b"caf\xc3\xa9 \xe7\x8c\xab\xe9\nb.jpg 2\r\n"


def test_big_endian_with_a_mark() -> None:
    assert decode_text(b"\xfe\xff" + TEXT.encode("utf-16-be")) == TEXT


def test_other_bytes_come_back_by_fsencode() -> None:
    data = b"caf\xe9.jpg 1\n"
    assert os.fsencode(decode_text(data)) == data


@pytest.mark.parametrize("data", [b"", b"\0", b"a\0b c", bytes(64), b"\0\0\1\0\0\0\2\0" * 9])
def test_null_characters_alone_are_no_utf16(data: bytes) -> None:
    assert os.fsencode(decode_text(data)) == data


def test_a_path_with_backslashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("img").mkdir()
    Path("img/a.jpg").write_bytes(b"slashes")
    assert local_path("img\\a.jpg") == "img/a.jpg"
    assert read_bytes("img\\a.jpg") == b"slashes"
    assert local_path("img\\gone.jpg") == "img\\gone.jpg"
    Path("img\\a.jpg").write_bytes(b"backslash")  # a name like any other here
    assert read_bytes("img\\a.jpg") == b"backslash"


def test_a_null_character_in_a_name() -> None:
    with pytest.raises(OSError, match="null character"):
        read_bytes("a\0b")
    with pytest.raises(OSError, match="null character"):
        write_atomically("a\0b", lambda file: None)
    with pytest.raises(OSError, match="null character"):
        check_writable("a\0b")


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


def test_a_folder_that_refuses_files_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows `tempfile` would ask 2^31 times."""
    refuse = Mock(side_effect=PermissionError(errno.EACCES, "Permission denied"))
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "a")
    refuse.assert_called_once()


def test_files_that_belong_together(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    with write_folder_aside(target) as folder:
        (folder / "net.onnx").write_text("model")
        (folder / "net.onnx.data").write_text("weights")
        (folder / "other").write_text("for a check only")
        assert not target.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    assert target.read_text() == "model"


def test_a_failure_keeps_the_old_file_and_leaves_nothing_aside(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), write_folder_aside(target) as folder:
        (folder / "net.onnx").write_text((folder / "missing").read_text())
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]
    assert target.read_text() == "old"
