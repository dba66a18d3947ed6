"""A run's records as JSON, one object a line, for programs to read."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from math import isfinite
from typing import Any

from moka.errors import UsageError
from moka.report.record_file import RecordFile
from moka.report.records import Record
from moka.types import PathLike


class JsonLines:
    """A listener that appends each record to a file; a resumed run continues the same file.

    A line is an object: `record`, the record's kind (`IterationCompleted` and so on), `time_s`,
    seconds since 1970, and the record's own fields.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: PathLike) -> None:
        try:
            self._file = RecordFile(path)
        except OSError as error:
            raise UsageError(f"--json_log {path} cannot be written: {error.strerror}.") from None

    def __call__(self, record: Record) -> None:
        head = {"record": type(record).__name__, "time_s": round(time.time(), 6)}
        line = to_json(head | asdict(record)) + "\n"
        self._file.try_to_write(line.encode())

    def close(self) -> None:
        self._file.close()


def to_json(value: Any) -> str:
    """One line of JSON. Infinities and NaN, which JSON does not know, become null."""
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if isfinite(value) else None
        case dict():
            return {key: _finite(each) for key, each in value.items()}
        case list() | tuple():
            return [_finite(each) for each in value]
    return value
