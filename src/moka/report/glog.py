"""Log lines in glog's form, which every reader of Caffe's logs relies on:

    I1120 08:31:22.123456 12345 solver.py:123] message

severity letter, month and day, time with microseconds, thread id, source position.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

_LETTERS = {
    logging.DEBUG: "I",
    logging.INFO: "I",
    logging.WARNING: "W",
    logging.ERROR: "E",
    logging.CRITICAL: "F",
}
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


@contextmanager
def log_to_stderr(*, plain: bool = False) -> Iterator[None]:
    """Send the logger "moka" to standard error; GLOG_minloglevel (0 INFO to 3 FATAL) is obeyed.

    Args:
        plain: for a person at a terminal: messages alone, without "moka.detail" (how nets are
            built, every batch of a test); else everything in glog's form.
    """
    number = os.environ.get("GLOG_minloglevel", "0")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s") if plain else GlogFormatter())
    logger, detail = logging.getLogger("moka"), logging.getLogger("moka.detail")
    before = logger.level, logger.propagate, detail.level
    logger.addHandler(handler)
    logger.setLevel(_LEVELS[min(int(number), 3)] if number.isdigit() else logging.INFO)
    logger.propagate = False
    if plain:
        detail.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        detail.setLevel(before[2])
