from __future__ import annotations

from pathlib import Path

import pytest

from moka.data.lists import read_lines, read_names, whole_number


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", "\t\r\n"])
def test_lines_without_the_blanks_at_their_ends(tmp_path: Path, encoding: str, end: str) -> None:
    lines = [" a é", "", "b\tc", "d"]
    (tmp_path / "list.txt").write_bytes("".join(line + end for line in lines).encode(encoding))
    assert read_lines(tmp_path / "list.txt") == lines
    assert read_names(tmp_path / "list.txt") == ["a é", "b\tc", "d"]


def test_a_mark_in_the_middle_of_joined_files(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffa\n\ufeffb", encoding="utf-8")
    assert read_lines(tmp_path / "list.txt") == ["a", "b"]


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("")
    assert read_lines(tmp_path / "list.txt") == [""]
    assert read_names(tmp_path / "list.txt") == []


@pytest.mark.parametrize(
    ("word", "number"),
    [("0", 0), ("007", 7), ("2147483647", 2**31 - 1), ("2147483648", None), ("9" * 5000, None),
     ("-1", None), ("1.0", None), ("", None)],
)  # fmt: skip
def test_whole_numbers(word: str, number: int | None) -> None:
    assert whole_number(word) == number


def test_an_end_of_their_own() -> None:
    assert whole_number("3", 3) is None
    assert whole_number("2", 3) == 2
