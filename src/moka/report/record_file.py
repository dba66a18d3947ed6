"""The file in which a listener keeps records of a run: a full disk costs records, never the run."""

from __future__ import annotations

import contextlib
import logging
import os

from moka.types import PathLike

log = logging.getLogger("moka")


class RecordFile:
    """A file that grows by whole records.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _BINARY, 0o666)
        self._has_failed = False

    def write(self, data: bytes) -> None:
        """Append all of a record, or nothing.

        Raises:
            OSError: the disk is full, or the like.
        """
        size = os.fstat(self._file).st_size
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            with contextlib.suppress(OSError):  # a device or a pipe has no size
                os.ftruncate(self._file, size)
            raise

    def try_to_write(self, data: bytes) -> None:
        """As `write`; the first error is logged, and all are endured."""
        try:
            self.write(data)
        except OSError as error:
            if not self._has_failed:
                log.warning(
                    "%s cannot be written: %s. The run goes on, and the file without what happens"
                    " meanwhile.",
                    os.fspath(self.path),
                    error.strerror,
                )
            self._has_failed = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)


_BINARY = getattr(os, "O_BINARY", 0)  # on Windows
