"""Log lines in glog's form, which every reader of Caffe's logs relies on:

    I1120 08:31:22.123456 12345 solver.py:123] message

severity letter, month and day, time with microseconds, thread id, source position.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from moka.errors import UsageError

_LETTERS = {
    logging.DEBUG: "I",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}
_INIT_LOG = "caffe.init_log"  # the name of its handler
_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


class GlogFormatter(logging.Formatter):
    """Formats records of Python's logging as glog does."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.fromtimestamp(record.created)
        thread = threading.get_native_id()
        return (
            f"{_LETTERS.get(record.levelno, 'I')}{when:%m%d %H:%M:%S.%f} {thread:5d}"
            f" {record.filename}:{record.lineno}] {record.getMessage()}"
        )


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what `sys.stderr` is at the moment: a progress bar takes its place for a while."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


@contextmanager
def log_to_stderr(*, plain: bool = False) -> Iterator[None]:
    """Send the logger "moka" to standard error; GLOG_minloglevel (0 INFO to 3 FATAL) is obeyed.

    Args:
        plain: for a person at a terminal: messages alone, without "moka.detail" (how nets are
            built, every batch of a test); else everything in glog's form.
    """
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(message)s") if plain else GlogFormatter())
    if plain:
        handler.addFilter(lambda r: r.name != "moka.detail" or r.levelno >= logging.WARNING)
    logger = logging.getLogger("moka")
    before = logger.level, logger.propagate
    number = os.environ.get("GLOG_minloglevel", "0")
    set_level(int(number) if number.isdigit() else 0)
    logger.propagate = False
    with _added(handler):
        try:
            yield
        finally:
            logger.setLevel(before[0])
            logger.propagate = before[1]


def set_level(number: int) -> None:
    """Show messages from this severity on: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL."""
    logging.getLogger("moka").setLevel(_LEVELS[max(0, min(number, 3))])


def init_log(level: int = 0, stderr: bool = False) -> None:
    """Show the log of a program that uses Caffe as a library, in glog's form, on standard error.

    Called again it replaces what it did before; other handlers of the logger stay.

    Args:
        level: show messages from this severity on: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL.
        stderr: False: only errors, as with glog, which would put the rest into files.
    """
    logger = logging.getLogger("moka")
    for old in [h for h in logger.handlers if h.get_name() == _INIT_LOG]:
        logger.removeHandler(old)
    handler = logging.StreamHandler(sys.stderr)
    handler.set_name(_INIT_LOG)
    handler.setFormatter(GlogFormatter())
    handler.setLevel(logging.NOTSET if stderr else logging.ERROR)
    logger.addHandler(handler)
    set_level(level)


def log(text: str) -> None:
    """One line of the log, severity INFO, said by the caller."""
    logging.getLogger("moka").info("%s", text, stacklevel=2)


@contextmanager
def log_to_file(folder: str, program: str = "caffe") -> Iterator[None]:
    """Write the log to a file of the folder too, named as glog names it, with a link `caffe.INFO`.

    Args:
        folder: "" takes the environment's GLOG_log_dir; if that is empty too, there is no file.
        program: with whose name the file and the link begin.

    Raises:
        UsageError: the file cannot be made.
    """
    folder = folder or os.environ.get("GLOG_log_dir", "")
    if not folder:
        yield
        return
    name = (
        f"{program}.{socket.gethostname()}.{getpass.getuser()}.log.INFO."
        f"{datetime.now():%Y%m%d-%H%M%S}.{os.getpid()}"
    )
    try:
        handler = logging.FileHandler(Path(folder) / name)
    except OSError as error:
        raise UsageError(f"--log_dir {folder} cannot be written: {error.strerror}.") from None
    handler.setFormatter(GlogFormatter())
    link = Path(folder) / f"{program}.INFO"
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.symlink_to(name)
    with _added(handler):
        yield


@contextmanager
def _added(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("moka")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
