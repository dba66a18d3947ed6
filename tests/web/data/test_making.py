"""What is said to `caffe make_data`, and what its log tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moka.errors import UsageError
from moka.web.data.making import arguments, told
from moka.web.folder import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "photos").mkdir()
    (tmp_path / "there").mkdir()
    return Folder(tmp_path)


def test_the_words_of_a_shell(folder: Folder) -> None:
    values = {
        "source": "photos",
        "target": "data/a b",
        "resize_height": "32",
        "resize_width": 48,
        "resize_mode": "fill",
        "gray": "1",
        "encode_type": "png",
        "backend": "leveldb",
        "test": "12.5",
        "seed": "3",
    }
    assert arguments(folder, values) == [
        "make_data", "photos", "data/a b", "--resize_height=32", "--resize_width=48",
        "--resize_mode=fill", "--test=12.5", "--seed=3", "--gray", "--encode_type=png",
        "--backend=leveldb",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "more",
    [
        {"source": "../photos"},
        {"source": "none"},
        {"source": ""},
        {"target": "../new"},
        {"target": "/tmp/new"},
        {"target": "there"},
        {"target": "--mean"},
        {"target": ".hidden"},
        {"resize_height": "32"},
        {"resize_height": "1e9", "resize_width": "1e9"},
        {"resize_mode": "squeeze"},
        {"encode_type": "png --gray"},
        {"test": "many"},
        {"root": "/etc"},
    ],
)
def test_what_is_refused(folder: Folder, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        arguments(folder, {"source": "photos", "target": "new", **more})


def line(message: str, letter: str = "I") -> str:
    return f"{letter}1129 08:31:22.000000 1 a.py:1] {message}"


def test_how_far_it_is() -> None:
    log = [line("Dividing 5000 images: 4000 for train, 1000 for test.")]
    assert told("\n".join(log)) == (0, 5000, "")
    log += [line("A total of 4000 images."), line("Processed 1000 files."),
            line("Processed 4000 files.")]  # fmt: skip
    assert told("\n".join(log)) == (4000, 5000, "")
    log += [line("A total of 1000 images."), line("Processed 600 files.")]
    assert told("\n".join(log)) == (4600, 5000, "")
    log.append(line("it is broken.", "F"))
    assert told("\n".join(log)) == (4600, 5000, "it is broken.")
    assert told("") == (0, None, "")
