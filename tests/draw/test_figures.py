from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from moka.draw.figures import STYLE, drawing, file_forms, picture_bytes, save
from moka.errors import UsageError


def picture() -> Figure:
    with drawing(3, 2) as figure:
        figure.subplots().plot([1, 2], [3, 4], label="x")
    return figure


def test_the_style_holds_while_drawing() -> None:
    import matplotlib

    before = matplotlib.rcParams["font.size"], matplotlib.rcParams["legend.frameon"]
    with drawing(3, 2) as figure:
        assert matplotlib.rcParams["legend.frameon"] is STYLE["legend.frameon"]
    assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["legend.frameon"]) == before
    assert tuple(figure.get_size_inches()) == (3, 2)


@pytest.mark.parametrize(
    ("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
def test_pictures(tmp_path: Path, name: str, start: bytes) -> None:
    save(picture(), tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize("form", sorted({*file_forms()} - {"pgf"}))  # pgf runs TeX
def test_each_form(form: str) -> None:
    with drawing(1, 1) as figure:
        figure.subplots().plot([1, 2])
    assert picture_bytes(figure, form)


def test_an_svg_picture_holds_text_and_a_title(tmp_path: Path) -> None:
    with drawing(3, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], label="the curve")
        axes.legend()
        axes.set_ylabel("loss")
    save(figure, tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text()
    assert "the curve</text>" in svg
    assert "<title>loss</title>" in svg


def test_the_same_picture_gives_the_same_svg(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        save(picture(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_pictures_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.jpx: a picture's name ends in .*\.png, .*\.svg"):
        save(picture(), tmp_path / "a.jpx")
    with pytest.raises(UsageError, match=r"a\.png cannot be written: No such file or directory\."):
        save(picture(), tmp_path / "gone" / "a.png")
