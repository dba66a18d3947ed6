"""Files that are either complete or not there."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise an OSError with the file's name unless a file can be made there.

    For what is written after long work, which would be lost otherwise.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=os.path.dirname(path) or ".", prefix=".moka-"):
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from None


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file aside, sync it to the disk, then give it its name.

    At every moment `path` is either absent, the old file or the complete new one. If writing
    fails (a full disk, say) the half-written file is removed and the OSError goes on.

    Args:
        path: the file's final name.
        write: called with the open binary file.
    """
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
