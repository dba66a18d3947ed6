from __future__ import annotations

from pathlib import Path

import pytest

from moka.data.label_maps import Pair, join_lists, read_pairs
from moka.errors import DataError


def write(folder: Path, text: str) -> Path:
    path = folder / "list.txt"
    path.write_text(text)
    return path


def test_pairs(tmp_path: Path) -> None:
    source = write(tmp_path, "a.png b.png\n\n c.jpg\td.png \n")
    assert read_pairs(source) == [Pair("a.png", "b.png", 1), Pair("c.jpg", "d.png", 3)]


def test_an_image_may_stand_alone(tmp_path: Path) -> None:
    assert read_pairs(write(tmp_path, "a.png\n"), alone=True) == [Pair("a.png", "a.png", 1)]


@pytest.mark.parametrize("line", ["a.png", "a.png b.png c.png"])
def test_a_line_that_is_no_pair(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError, match=f'line 2, "{line}", is not the paths of an image'):
        read_pairs(write(tmp_path, f"x.png y.png\n{line}\n"))


def test_a_missing_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_pairs(tmp_path / "none.txt")


def test_a_missing_list_of_two(tmp_path: Path) -> None:
    there = write(tmp_path, "a.png\n")
    with pytest.raises(DataError, match=r"none\.txt: No such file .* with a path on each line\.$"):
        join_lists(there, tmp_path / "none.txt", ("", ""))
