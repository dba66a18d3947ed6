"""Databases of a folder, and what each holds: read through once, in a thread, and remembered."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from moka.data import datum
from moka.data.decode import Image, decode_image
from moka.data.folder import ClassFolder
from moka.data.images import IMAGE_SUFFIXES
from moka.data.store import Store, is_database, known_count, open_store
from moka.errors import MokaError, UsageError
from moka.tools.db import Survey, kind_of, survey
from moka.tools.make_data import MEAN, class_names
from moka.web.folder import Folder

NO_LABEL = -(2**31)
MOST_SETS = 64  # whose contents are remembered
PATIENCE_S = 0.3  # a request waits so long for a small database

Stamp = tuple[float, int]


@dataclass
class Contents:
    """What a database holds.

    Attributes:
        done: records read so far.
        labels: of each record; NO_LABEL for none.
        broken: numbers of records that cannot be read.
        survey: when all has been read.
        error: why it cannot be.
    """

    stamp: Stamp
    done: int = 0
    total: int | None = None
    labels: list[int] = field(default_factory=list)
    broken: list[int] = field(default_factory=list)
    survey: Survey | None = None
    error: str = ""
    ready: threading.Event = field(default_factory=threading.Event)


class DataSets:
    """The databases and folders of images below a folder."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        self._known: dict[str, Contents] = {}
        self._lock = threading.Lock()

    def found(self) -> list[dict[str, Any]]:
        """Every database, and every folder with subfolders of images, by name."""
        sets: list[dict[str, Any]] = []
        folders: set[Path] = set()
        for place, entries in self.folder.walk():
            if place != self.folder.path and is_database(place):
                sets.append(self._described(place, "database", entries))
            elif any(_is_image(entry) for entry in entries) and place != self.folder.path:
                folders.add(place.parent)
        sets += [self._described(place, "folder", ()) for place in folders]
        return sorted(sets, key=lambda each: str(each["name"]))

    def _described(self, place: Path, kind: str, entries: Sequence[Any]) -> dict[str, Any]:
        sizes = [entry.stat().st_blocks * 512 for entry in entries if entry.is_file()]
        return {
            "name": self.folder.name(place),
            "kind": kind,
            "backend": _backend(place) if kind == "database" else "",
            "bytes": sum(sizes) if sizes else None,
            "written": place.stat().st_mtime,
            "records": _count(place) if kind == "database" else None,
        }

    def open(self, name: str) -> Store:
        """A database by its name. Raises UsageError or DataError if it is none."""
        path = self.folder.existing(name)
        if not is_database(path):
            raise UsageError(f"{name} is no database.")
        return open_store(path)

    def contents(self, name: str) -> Contents:
        """What a database holds, as far as it has been read."""
        store = self.open(name)
        stamp = _stamp(Path(store.path))
        with self._lock:
            known = self._known.get(name)
            if known is None or known.stamp != stamp:
                while len(self._known) >= MOST_SETS:
                    del self._known[next(iter(self._known))]
                total = len(store) if store.backend == "lmdb" else None
                known = self._known[name] = Contents(stamp, total=total)
                work = threading.Thread(target=_read, args=(store, known), daemon=True)
                work.start()
        known.ready.wait(PATIENCE_S)
        return known

    def class_names(self, name: str) -> list[str]:
        """The names of its labels; empty: there are none."""
        place = self.folder.inside(name)
        try:
            return [] if place == self.folder.path else class_names(place)
        except OSError:
            return []

    def mean_file(self, name: str) -> Path:
        """Where the mean image of a data set lies, or would."""
        return self.folder.inside(name).parent / MEAN

    def image(self, name: str, number: int) -> tuple[str, int | None, str, Image]:
        """Key, label, kind and image of one record.

        Raises:
            UsageError: there is no such record.
            DataError: it is broken.
        """
        for key, value in self._pick(self.open(name), [number]):
            record, _ = datum.parse_any(value)
            text = key.decode(errors="replace")
            label = record.label if record.HasField("label") else None
            return text, label, kind_of(record), datum.decode(record, name=text)
        raise UsageError(f"{name} has no record {number}.")

    def keys(self, name: str, numbers: Sequence[int]) -> list[str]:
        """The keys of some records, whose numbers rise."""
        picked = self._pick(self.open(name), numbers)
        return [key.decode(errors="replace") for key, _ in picked]

    def _pick(self, store: Store, numbers: Sequence[int]) -> Any:
        if store.backend == "lmdb":
            count = len(store)
            return store.pick([n for n in numbers if 0 <= n < count])
        return _in_order(store, numbers)


def _in_order(store: Store, numbers: Sequence[int]) -> Any:
    """The records of numbers that rise, of a database that is only read in order."""
    wanted = iter(numbers)
    number = next(wanted, None)
    if number is None or number < 0:
        return
    for at, record in enumerate(store.read(number), number):
        if at == number:
            yield record
            number = next(wanted, None)
            if number is None:
                return


def _read(store: Store, into: Contents) -> None:
    labels: list[int] = []

    def each(done: int, label: int | None, kind: str) -> None:
        labels.append(NO_LABEL if label is None else label)
        if kind == "broken":
            into.broken.append(done - 1)
        into.done = done

    try:
        found = survey(store, each)
        into.labels, into.survey = labels, found
    except (MokaError, OSError) as error:
        into.error = str(error)
    finally:
        into.ready.set()


def with_label(contents: Contents, label: int) -> list[int]:
    """The numbers of the records with a label."""
    return np.flatnonzero(np.array(contents.labels) == label).tolist()


def folder_contents(path: Path) -> dict[str, Any]:
    """The classes of a folder and how many images each has. Raises DataError for another folder."""
    images = ClassFolder(path, decode_image)
    counts = np.bincount([file.label for file in images.files], minlength=len(images.classes))
    classes = [
        {"label": i, "name": name, "count": int(count)}
        for i, (name, count) in enumerate(zip(images.classes, counts, strict=True))
    ]
    first = os.path.join(images.root_folder, images.files[0].path)
    return {"classes": classes, "count": len(images), "first": first}


def _count(place: Path) -> int | None:
    """The records of a database that knows their number."""
    try:
        return known_count(open_store(place))
    except (MokaError, OSError):
        return None


def _backend(place: Path) -> str:
    return "leveldb" if (place / "CURRENT").exists() else "lmdb"


def _stamp(path: Path) -> Stamp:
    status = [entry.stat() for entry in os.scandir(path)] if path.is_dir() else [path.stat()]
    return max(s.st_mtime for s in status), sum(s.st_size for s in status)


def _is_image(entry: os.DirEntry[str]) -> bool:
    return os.path.splitext(entry.name)[1][1:].lower() in IMAGE_SUFFIXES
