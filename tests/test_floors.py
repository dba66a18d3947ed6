"""Imports run downwards: each part of Moka uses only those on the floors below it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from tests.programs import load_program

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def floors() -> ModuleType:
    return load_program("docs/floors.py")


def test_imports_run_downwards(floors: ModuleType) -> None:
    assert floors.faults(floors.imports()) == []


def test_the_picture_is_up_to_date(floors: ModuleType) -> None:
    drawn = floors.picture(list(floors.imports()))
    assert (DOCS / "floors.svg").read_text() == drawn, "run: make docs"


def test_no_part_is_cut_off(floors: ModuleType) -> None:
    drawn = ElementTree.fromstring(floors.picture([]))
    boxes = [each for each in drawn.iter() if each.get("rx")]
    assert len(boxes) == len(floors.floor_of())
    for box in boxes:
        left = float(box.attrib["x"])
        assert 0 <= left <= float(drawn.attrib["width"]) - float(box.attrib["width"])


def test_imports_of_functions_count(floors: ModuleType, tmp_path: Path) -> None:
    for name, text in {
        "moka/net/net.py": "import torch\nfrom moka import draw\ndef f():\n    import caffe.io\n",
        "moka/draw/__init__.py": "from moka.checks import runs\n",
        "moka/checks/runs.py": "from moka.net import net\nfrom moka.net.net import Net\n",
        "caffe/io.py": "import moka.net.net\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = list(floors.imports(tmp_path))
    assert ("moka.checks.runs", "moka.net.net") in found
    assert floors.faults(found) == [
        "moka.draw imports moka.checks.runs, which does not lie on a lower floor.",
        "moka.net.net imports moka.draw, which does not lie on a lower floor.",
        "moka.net.net imports caffe.io, which does not lie on a lower floor.",
    ]


def test_a_new_part_needs_a_floor(floors: ModuleType) -> None:
    said = floors.faults([("moka.attic.box", "moka.errors")])
    assert said[0] == "attic stands on no floor: add it to FLOORS."


def test_arrows_that_follow_from_others_are_left_out(floors: ModuleType) -> None:
    pairs = [("moka.net.net", "moka.layers.base"), ("moka.layers.base", "moka.errors")]
    assert floors.arrows([*pairs, ("moka.net.net", "moka.errors")]) == [
        ("layers", "errors"),
        ("net", "layers"),
    ]
