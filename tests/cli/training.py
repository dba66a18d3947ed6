"""A training run in the workspace: how it is asked for, changed and looked at."""

from __future__ import annotations

import os
from pathlib import Path

SOLVER = ("train", "-solver", "solver.prototxt")


def replace(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def snapshots() -> list[str]:
    return sorted(name for name in os.listdir() if name.startswith("snap"))


def names(*iterations: int) -> list[str]:
    kinds = ("caffemodel", "solverstate")
    return sorted(f"snap_iter_{i}.{kind}" for i in iterations for kind in kinds)
