"""Files and folders of a script."""

from __future__ import annotations

import os


def check_if_exist(path: str) -> bool:
    """Whether there is a file or folder of this name."""
    return os.path.exists(path)


def make_if_not_exist(path: str) -> None:
    """Make a folder, with the folders above it, unless it is there."""
    os.makedirs(path, exist_ok=True)
