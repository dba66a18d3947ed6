"""The reference of layer types is what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from moka.layers import REGISTRY

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_layers", DOCS / "make_layers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date(maker: ModuleType) -> None:
    assert (DOCS / "layers.md").read_text() == maker.page(), "run: make docs"


def test_every_type_has_its_entry(maker: ModuleType) -> None:
    headings = [line[4:] for line in maker.page().splitlines() if line.startswith("### ")]
    assert sorted(headings) == sorted(REGISTRY)


def test_comments_of_fields_above_and_beside(maker: ModuleType) -> None:
    comments = maker.field_comments()
    assert comments["ArgMaxParameter"]["out_max_val"].startswith("The values too: without `axis`")
    assert comments["AccuracyParameter"]["axis"] == "The classes' axis in the scores"
    assert comments["ArgMaxParameter"]["top_k"] == ""


def test_signs_of_markdown_are_escaped(maker: ModuleType) -> None:
    assert maker.escaped("a_b * c `d_e` |x|") == r"a\_b \* c `d_e` \|x\|"
