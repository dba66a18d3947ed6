"""The folder that a page shows. No name of a request leads out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from moka.byte_text import to_bytes, to_text
from moka.errors import UsageError
from moka.types import PathLike

MOST_ENTRIES = 200_000  # files and folders that a walk looks at
DEPTH = 8  # folders below each other


class Folder:
    """A folder and everything below it. Names are texts of `byte_text`, which any file has.

    Args:
        path: has to be there.

    Raises:
        UsageError: it is not.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(os.path.realpath(path))
        if not self.path.is_dir():
            raise UsageError(f"{path} is no folder.")

    def inside(self, name: str) -> Path:
        """The path of a name that is relative to the folder.

        Raises:
            UsageError: it leads out of the folder, by itself or by a symbolic link.
        """
        if "\0" in name:
            raise UsageError("a name contains a null character.")
        found = Path(os.path.realpath(self.path / self.spelled(name)))
        if found != self.path and self.path not in found.parents:
            raise UsageError(f"{name} is not in the folder {self.path}.")
        return found

    @staticmethod
    def spelled(name: str) -> str:
        """A name as Python's own functions, and other programs, take it."""
        return os.fsdecode(to_bytes(name))

    def existing(self, name: str) -> Path:
        """As `inside`; raises UsageError too if nothing is there."""
        found = self.inside(name)
        if not found.exists():
            raise UsageError(f"there is no {name} in {self.path}.")
        return found

    def name(self, path: PathLike) -> str:
        """A path below the folder relative to it, with slashes."""
        return to_text(os.fsencode(Path(os.path.relpath(path, self.path)).as_posix()))

    def walk(self) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
        """Each folder, from above, with its entries sorted by name.

        Names that begin with a dot are left out, and so are links that lead out of the folder.
        The walk ends after MOST_ENTRIES and goes DEPTH folders deep.
        """
        waiting = [(self.path, 0)]
        seen = 0
        while waiting and seen < MOST_ENTRIES:
            place, depth = waiting.pop(0)
            try:
                with os.scandir(place) as entries:
                    visible = [e for e in entries if not e.name.startswith(".")]
            except OSError:
                continue  # it may have been removed, or is not for us
            visible = sorted((e for e in visible if self._is_within(e)), key=lambda e: e.name)
            seen += len(visible)
            yield place, visible
            if depth < DEPTH:
                waiting += [
                    (place / e.name, depth + 1) for e in visible if e.is_dir(follow_symlinks=False)
                ]

    def _is_within(self, entry: os.DirEntry[str]) -> bool:
        if not entry.is_symlink():
            return True
        target = Path(os.path.realpath(entry.path))
        return self.path in target.parents
