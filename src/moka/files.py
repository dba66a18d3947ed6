"""Files: read as any system wrote them, and written so that they are complete or not there."""

from __future__ import annotations

import codecs
import contextlib
import errno
import glob
import mmap
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from moka.byte_text import has_other_bytes, to_bytes
from moka.errors import did_you_mean

_MOST_NAMES = 1000  # of a folder in which a name like the one given is sought
# A file in UTF-32 begins with the mark of UTF-16 as well, so the longer marks come first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def local_path(path: str | os.PathLike[str]) -> str:
    r"""The name of a file on this system, for a name that may come from Windows.

    Returns:
        `path` as it is (bytes of another encoding than UTF-8 as Python's own names of files have
        them), unless it does not exist and exists with slashes in place of its backslashes, as
        img/a.jpg for img\a.jpg.
    """
    name = os.fspath(path)
    if has_other_bytes(name):
        raw = to_bytes(name)
        name = raw.decode("mbcs", "replace") if os.name == "nt" else os.fsdecode(raw)
    if os.sep == "/" and "\\" in name and not os.path.lexists(name):
        with_slashes = name.replace("\\", "/")
        if os.path.lexists(with_slashes):
            return with_slashes
    return name


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes; its name may be written as on Windows (see `local_path`).

    Raises:
        OSError: the file cannot be read, or no file can have this name.
    """
    refuse_null(path)
    with open(local_path(path), "rb", buffering=0) as file:  # a buffer would cost a copy
        return file.readall()


def refuse_null(path: str | os.PathLike[str]) -> None:
    """Raises OSError for a name with a null character, for which Python has a ValueError."""
    if "\0" in os.fspath(path):
        raise OSError(errno.EINVAL, "the name contains a null character", os.fspath(path))


def refuse_if_cut(data: mmap.mmap) -> None:
    """Raises ValueError if a mapped file has become shorter: to read behind its end would end the
    process."""
    if data.size() < len(data):
        raise ValueError("somebody has cut the file, or written another over it, meanwhile")


def advice_on_missing(path: str | os.PathLike[str]) -> str | None:
    """What to do about a name that is no file's: a name like it in the same folder, or about ~."""
    path = os.fspath(path)
    if path.startswith("~"):
        return f"Only a shell knows ~: write {os.path.expanduser(path)}."
    folder, name = os.path.split(path)
    try:
        there = os.listdir(folder or ".")
    except (OSError, ValueError):
        return None
    few = len(there) <= _MOST_NAMES and name not in there
    return did_you_mean(name, there) if few else None


def read_text_file(path: str | os.PathLike[str]) -> str:
    """A file's text, see `decode_text`. Raises OSError as `read_bytes` does."""
    return decode_text(read_bytes(path))


def decode_text(data: bytes) -> str:
    """The text in a file's bytes, as editors of any system save it.

    A byte order mark says whether the text is UTF-8, UTF-16 or UTF-32; it is left out. UTF-16 is
    recognized without a mark too. Anything else is UTF-8; bytes that are not become surrogate
    escapes, so `os.fsencode` gives them back. Line ends stay as they are.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            how = "surrogateescape" if encoding == "utf-8" else "replace"
            return data[len(mark) :].decode(encoding, how)
    text = _unmarked_utf16(data) if b"\0" in data else None
    return data.decode("utf-8", "surrogateescape") if text is None else text


def _unmarked_utf16(data: bytes) -> str | None:
    """The text of UTF-16 without a byte order mark; None if the bytes are something else.

    Blanks, digits, dots and line ends have a zero byte, always on the same side.
    """
    low, high = data[::2].count(0), data[1::2].count(0)
    if max(low, high) < max(1, len(data) // 16) or min(low, high) * 4 > max(low, high):
        return None
    try:
        text = data.decode("utf-16-be" if low > high else "utf-16-le")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def write_text_file(path: str | os.PathLike[str], text: str) -> None:
    """Write a text as `read_text_file` reads it on every system: in UTF-8, with its own line ends;
    Python's escapes of other bytes leave as these bytes."""
    Path(path).write_bytes(text.encode("utf-8", "surrogateescape"))


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError with the file's name unless a file can be made there.

    For what is written after long work, which would be lost otherwise.
    """
    refuse_null(path)
    # `tempfile` takes a refusal on Windows for a name that is taken, and tries 2^31 names.
    probe = Path(path).parent / f".moka-{uuid.uuid4().hex}"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        probe.unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def full_disk(path: str | os.PathLike[str], wanted: int) -> str | None:
    """What to say if fewer than `wanted` bytes are free where a file is written, else None: some
    libraries do not say why they could not write."""
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError:
        return None
    return f"The disk is full: {free} bytes are free." if free < wanted else None


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file aside, sync it to the disk, then give it its name.

    At every moment `path` is either absent, the old file or the complete new one. If writing
    fails (a full disk, say) the half-written file is removed and the OSError goes on.

    Args:
        path: the file's final name.
        write: called with the open binary file.
    """
    refuse_null(path)
    target = Path(path)
    remove_leftovers(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(aside, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):  # name the file the caller knows
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise
    _sync_folder(target.parent)


@contextlib.contextmanager
def write_folder_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder to write a file in, together with others that belong beside it.

    When the body ends, all files in the folder whose names begin with that of `path` get their
    places, `path` last. If it fails, nothing is left.

    Args:
        path: the file's final name.
    """
    target = Path(path)
    check_writable(target)
    remove_leftovers(target)
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        aside.mkdir()
        yield aside
        made = [file for file in aside.iterdir() if file.name.startswith(target.name)]
        for file in sorted(made, key=lambda f: f.name, reverse=True):
            with open(file, "r+b") as written:  # Windows syncs no file that is only read
                os.fsync(written.fileno())
            os.replace(file, target.with_name(file.name))
        _sync_folder(target.parent)
    except OSError as error:  # name the file the caller knows
        raise OSError(error.errno, error.strerror or str(error), os.fspath(path)) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove what processes that were killed while they wrote this file or folder have left."""
    for path in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        pid = path.name.split(".")[-2]
        if pid.isdecimal() and not _is_running(int(pid)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_running(pid: int) -> bool:
    if os.name != "posix":
        return True  # there a signal of 0 would end it
    try:
        os.kill(pid, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system knows how (not on Windows)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
