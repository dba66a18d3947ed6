"""Writing a database that is complete or not there at all."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from moka.errors import DataError
from moka.files import check_writable, full_disk, remove_leftovers

COMMIT_EVERY = 1000  # records a transaction

Records = list[tuple[bytes, bytes]]


class RecordWriter(ABC):
    """Makes a database under a temporary name and renames it when it is complete.

    Use it in a `with` block: put records; at the end the folder gets its name. If the block fails,
    nothing is left. An existing target is refused.

    Raises:
        DataError: the target exists, or cannot be written.
    """

    refusal: str  # what Caffe says of an existing target

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.exists():
            raise DataError(
                f"{self.refusal.format(self.path)}: File exists, and a database is not written"
                " over another.",
                advice="Remove it first, or choose another name.",
            )
        self._aside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._pending: Records = []

    @abstractmethod
    def error_types(self) -> tuple[type[Exception], ...]:
        """The exceptions that the methods below may raise."""

    @abstractmethod
    def open(self, folder: Path) -> None:
        """Make an empty database in a folder that is not there yet."""

    @abstractmethod
    def write(self, records: Records) -> None:
        """Add records; a key that is there already is replaced."""

    @abstractmethod
    def sync(self) -> None:
        """Flush everything to disk."""

    @abstractmethod
    def close(self) -> None:
        """Close the database and remove files that only its writer needs."""

    def __enter__(self) -> Self:
        def make() -> None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            check_writable(self.path)
            remove_leftovers(self.path)
            self.open(self._aside)

        try:
            self._trying(make)
        except DataError:
            shutil.rmtree(self._aside, ignore_errors=True)
            raise
        return self

    def put(self, key: bytes, value: bytes) -> None:
        """Add one record; a key that is there already is replaced."""
        self._pending.append((key, value))
        if len(self._pending) >= COMMIT_EVERY:
            self._commit()

    def _commit(self) -> None:
        self._trying(lambda: self.write(self._pending))
        self._pending.clear()

    def advice_for(self, text: str) -> str | None:
        """What to do about an error of the database's library, if that can be told."""
        return None

    def _trying(self, step: Callable[[], None]) -> None:
        try:
            step()
        except self.error_types() as error:
            fact = error.args[0] if error.args else error
            text = fact.decode(errors="replace") if isinstance(fact, bytes) else str(error)
            if isinstance(error, OSError) and error.errno:
                text = os.strerror(error.errno)
            wanted = sum(len(key) + len(value) for key, value in self._pending)
            raise DataError(
                f"the database cannot be written: {text}.",
                file=self.path,
                advice=self.advice_for(text) or full_disk(self.path, wanted),
            ) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        complete = False
        try:
            if error is None:
                self._commit()
                self._trying(self.sync)
                complete = True
        finally:
            self.close()
            if complete:
                os.replace(self._aside, self.path)
            else:
                shutil.rmtree(self._aside, ignore_errors=True)
