"""Disks that are full or read-only: small ones in memory, where this user may mount them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


class Disk:
    """A disk of its own.

    Attributes:
        path: the folder where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def free(self) -> int:
        return shutil.disk_usage(self.path).free

    @property
    def files(self) -> list[str]:
        """The names of everything on it but the filler."""
        found = (str(path.relative_to(self.path)) for path in self.path.rglob("*"))
        return sorted(name for name in found if name != "filler")

    def fill(self, leave: int = 0) -> None:
        """Leave so many bytes free."""
        with (self.path / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, self.free - leave)

    def clear(self) -> None:
        """Remove the filler."""
        (self.path / "filler").unlink()

    def write_protect(self) -> None:
        _mount("-o", "remount,ro", str(self.path))


def _mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """An empty disk of 1 MB. It lies apart from pytest's folders, which pytest removes."""
    path = tempfile.mkdtemp(prefix="moka-disk-")
    try:
        _mount("-t", "tmpfs", "-o", "size=1m", "moka-test", path)
    except (OSError, subprocess.CalledProcessError):
        os.rmdir(path)
        pytest.skip("only root can mount a disk, and not everywhere")
    try:
        yield Disk(Path(path))
    finally:
        subprocess.run(["umount", "--lazy", path], check=True, capture_output=True)
        os.rmdir(path)
