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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from moka.byte_text import readable, to_bytes
from moka.errors import UsageError

_LETTERS = {
    logging.DEBUG: "I",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}
# Names of handlers.
_PROGRAM, _PYCAFFE, _ADDED = "moka program", "pycaffe", "file of a program"
HIDDEN = ("moka.detail", "moka.records")  # loggers that a person at a terminal does not see
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


class _AnyBytes:
    r"""A text stream that also takes names in other encodings than UTF-8.

    As in BVLC Caffe's log, such bytes leave as the prototxt had them; a person at a terminal, or a
    stream without bytes below it, gets escapes such as \xe9.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        escaped = readable(text)
        if escaped == text:
            self._stream.write(text)
        elif self._stream.isatty() or not hasattr(self._stream, "buffer"):
            self._stream.write(escaped)
        else:
            self._stream.flush()
            self._stream.buffer.write(to_bytes(text))

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


class _StandardError(logging.StreamHandler[Any]):
    """Writes to the current `sys.stderr`, which a progress bar may replace for a while."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self.set_name(name)

    @property
    def stream(self) -> Any:
        return sys.stderr and _AnyBytes(sys.stderr)


class _LogFile(logging.FileHandler):
    """Writes to a file; a full disk costs lines, never the run, and standard error says so once."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._has_failed:
            self._has_failed = True
            sentence = f"{self.baseFilename} cannot be written: {error.strerror}. The run goes on."
            with contextlib.suppress(OSError):
                print(sentence, file=sys.stderr)

    def close(self) -> None:
        try:
            super().close()
        except OSError as error:
            if not self._has_failed:
                raise OSError(error.errno, error.strerror, self.baseFilename) from None


@contextmanager
def log_to_stderr(*, plain: bool = False) -> Iterator[None]:
    """Send the logger "moka" to standard error; GLOG_minloglevel (0 INFO to 3 FATAL) is obeyed.

    Args:
        plain: for a person at a terminal: messages alone, without "moka.detail" (how nets are
            built, every batch of a test) and "moka.records" (which a bar and tables show there),
            but for warnings and what a verbosity asks for; else everything in glog's form.
    """
    handler = _StandardError(_PROGRAM)
    handler.setFormatter(logging.Formatter("%(message)s") if plain else GlogFormatter())
    if plain:
        handler.addFilter(lambda r: r.name not in HIDDEN or r.levelno != logging.INFO)
    logger = logging.getLogger("moka")
    before = logger.level, logger.propagate
    set_level(_number("GLOG_minloglevel"))
    logger.propagate = False
    with _added(handler):
        try:
            yield
        finally:
            logger.setLevel(before[0])
            logger.propagate = before[1]


def set_level(number: int, verbosity: int = 0) -> None:
    """Log messages from this severity on: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL.

    Args:
        verbosity: 1 and more: with INFO also what engines choose, and why. 0: the environment's
            GLOG_v.
    """
    is_verbose = number <= 0 and (verbosity or _number("GLOG_v")) > 0
    logging.getLogger("moka").setLevel(logging.DEBUG if is_verbose else _level(number))


def obey_flags(flags: Mapping[str, Any]) -> None:
    """Set the level that a command's flags --minloglevel and --v ask for."""
    least, verbosity = flags["minloglevel"], flags["v"]
    if least or verbosity > 0:
        set_level(least or _number("GLOG_minloglevel"), verbosity)


def set_stderr_level(number: int) -> None:
    """Show messages from this severity on; a log file keeps all."""
    for handler in logging.getLogger("moka").handlers:
        if handler.get_name() == _PROGRAM:
            handler.setLevel(_level(number))


def show_only(name: str) -> None:
    """Show the messages of one logger alone on standard error; a log file keeps all."""
    for handler in logging.getLogger("moka").handlers:
        if handler.get_name() == _PROGRAM:
            handler.addFilter(logging.Filter(name))


def init_log(level: int | None = None, stderr: bool | None = None) -> None:
    """Show the log of a program that uses Caffe as a library, in glog's form, on standard error.

    A second call replaces the first; other handlers of the logger stay.

    Args:
        level: show messages from this severity on: 0 INFO, 1 WARNING, 2 ERROR, 3 FATAL;
            None: the environment's GLOG_minloglevel.
        stderr: show all of them; False: only those from GLOG_stderrthreshold (ERROR) on. None:
            the environment's GLOG_logtostderr or GLOG_alsologtostderr.

    With GLOG_log_dir all of them also go to a file there; without it, unlike glog, to none.

    Raises:
        UsageError: that file cannot be made.
    """
    if stderr is None:
        stderr = _is_on("GLOG_logtostderr")
    shows_all = stderr or _is_on("GLOG_alsologtostderr")
    _show_as_glog(0 if shows_all else _number("GLOG_stderrthreshold", 2))
    if folder := os.environ.get("GLOG_log_dir", ""):
        handler = _file_handler(folder, "caffe")
        handler.set_name(_PYCAFFE)
        logging.getLogger("moka").addHandler(handler)
    set_level(_number("GLOG_minloglevel") if level is None else level)


def show_pycaffe_log() -> None:
    """Show the log on standard error, as pycaffe does before `init_log`, unless the program has
    set up Python's logging by itself: a handler for "moka" or for everything.

    Called when the first pycaffe net or solver is made; a second call does nothing.
    """
    if not logging.getLogger("moka").hasHandlers():
        _show_as_glog(0)
        set_level(_number("GLOG_minloglevel"))


def _show_as_glog(threshold: int) -> None:
    logger = logging.getLogger("moka")
    _remove(_PYCAFFE)
    handler = _StandardError(_PYCAFFE)
    handler.setFormatter(GlogFormatter())
    handler.setLevel(_level(threshold) if threshold else logging.NOTSET)
    logger.addHandler(handler)


def _remove(name: str) -> None:
    """Take the handlers of this name off the logger."""
    logger = logging.getLogger("moka")
    for old in [h for h in logger.handlers if h.get_name() == name]:
        logger.removeHandler(old)
        old.close()


def _level(number: int) -> int:
    """Python's level of a glog severity, 0 to 3."""
    return _LEVELS[max(0, min(number, 3))]


def _number(variable: str, default: int = 0) -> int:
    """A number in the environment; the default for anything else."""
    text = os.environ.get(variable, "")
    return int(text) if text.isdecimal() else default


def _is_on(variable: str) -> bool:
    """Whether a switch in the environment is on, as glog reads it."""
    return os.environ.get(variable, "")[:1] in tuple("tTyY1")


def log(text: str) -> None:
    """Log one line of the caller's, severity INFO."""
    show_pycaffe_log()
    logging.getLogger("moka").info("%s", text, stacklevel=2)


@contextmanager
def log_to_file(folder: str, program: str = "caffe") -> Iterator[None]:
    """Write the log to a file in the folder too, named as glog names it, with a link `caffe.INFO`.

    Args:
        folder: made if need be. "" takes the environment's GLOG_log_dir; if that is empty too,
            there is no file.
        program: the file's and the link's name begin with it.

    Raises:
        UsageError: the file cannot be made.
    """
    folder = folder or os.environ.get("GLOG_log_dir", "")
    if not folder:
        yield
        return
    with _added(_file_handler(folder, program)):
        yield


def _file_handler(folder: str, program: str) -> logging.Handler:
    """A new log file in a folder, and a link to it. Raises UsageError if it cannot be made."""
    name = (
        f"{program}.{socket.gethostname()}.{_user()}.log.INFO."
        f"{datetime.now():%Y%m%d-%H%M%S}.{os.getpid()}"
    )
    try:
        os.makedirs(folder, exist_ok=True)
        handler = _handler_of(Path(folder) / name)
    except OSError as error:
        raise UsageError(f"--log_dir {folder} cannot be written: {error.strerror}.") from None
    link = Path(folder) / f"{program}.INFO"
    with contextlib.suppress(OSError):
        link.unlink(missing_ok=True)
        link.symlink_to(name)
    return handler


def _handler_of(path: Path) -> logging.Handler:
    """A new log file. Raises OSError if it cannot be made."""
    handler = _LogFile(path, encoding="utf-8")
    any_bytes: Any = _AnyBytes(handler.stream)
    handler.setStream(any_bytes)
    handler.setFormatter(GlogFormatter())
    return handler


def add_log_file(base: str) -> None:
    """Write the log of a program that uses Caffe as a library to a file too, named by `base` and
    the time, as glog names one. A second call ends the first file.

    Raises:
        UsageError: the file cannot be made.
    """
    path = Path(f"{base}{datetime.now():%Y%m%d-%H%M%S}.{os.getpid()}")
    try:
        handler = _handler_of(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
    _remove(_ADDED)
    handler.set_name(_ADDED)
    logging.getLogger("moka").addHandler(handler)


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a number without a name, as in a container
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


@contextmanager
def _added(handler: logging.Handler) -> Iterator[None]:
    logger = logging.getLogger("moka")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()
