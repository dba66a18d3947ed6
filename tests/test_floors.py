"""Imports run downwards: each part of Moka uses only those on the floors below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "moka"
FLOORS = (
    ("errors", "types", "files"),
    ("schema",),
    ("graph",),
    ("data",),
    ("layers",),
    ("net",),
    ("weights",),
    ("engine",),
    ("solver",),
    ("predict", "check", "draw"),
    ("cli", "tools"),
)
SHARED = (0, len(FLOORS) - 1)  # floors whose parts may use each other
FLOOR_OF = {part: number for number, floor in enumerate(FLOORS) for part in floor}


def imported(text: str) -> Iterator[str]:
    """The modules that a program imports, anywhere in it, by their full names."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(part: str, modules: Iterator[str]) -> list[str]:
    """The modules of Moka that lie on the floor of a part, in another part, or above it."""
    here = FLOOR_OF[part]
    found = []
    for module in modules:
        there = (*module.split("."), "")[1] if module.startswith("moka.") else ""
        if there == part or there not in FLOOR_OF:
            continue
        if FLOOR_OF[there] > here or (FLOOR_OF[there] == here and here not in SHARED):
            found.append(module)
    return found


FILES = sorted(file for file in SOURCE.rglob("*.py") if "models" not in file.parts)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_imports_run_downwards(file: Path) -> None:
    part = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    if part in FLOOR_OF:
        assert upward(part, imported(file.read_text())) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_nothing_imports_the_face(file: Path) -> None:
    assert not [name for name in imported(file.read_text()) if name.split(".")[0] == "caffe"]


def test_what_is_upward() -> None:
    text = "import torch\nfrom moka.net import Net\nfrom moka import draw\nimport moka.solver.x\n"
    assert upward("net", imported(text)) == ["moka.draw", "moka.solver.x"]
    assert upward("draw", imported("from moka.check import runs")) == [
        "moka.check",
        "moka.check.runs",
    ]
    assert upward("tools", imported("from moka.cli import flags")) == []
    assert list(imported("def f():\n    import caffe.io")) == ["caffe.io"]
