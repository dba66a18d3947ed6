from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from moka.layers.detection.sizes import read_name_sizes
from moka.tools.get_image_size import main

if TYPE_CHECKING:
    from tests.messages import Messages


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("img").mkdir()
    for name, height, width in (("one.v2.png", 3, 5), ("two.jpg", 7, 2), ("my dog.png", 1, 1)):
        cv2.imwrite(f"img/{name}", np.zeros((height, width, 3), np.uint8))
    Path("img/broken.png").write_bytes(b"no image")
    Path("list").write_text("img/one.v2.png xml/one.xml\n\nimg/two.jpg 7\n")


@pytest.mark.parametrize("root", ["", "./", "."])
def test_the_file(messages: Messages, root: str) -> None:
    Path("sizes").write_text("old")
    assert main([root, "list", "sizes"]) == 0
    assert messages() == ["I A total of 2 images.", "I Processed 2 files."]
    assert Path("sizes").read_text() == "one.v2 3 5\ntwo 7 2\n"
    assert read_name_sizes("sizes") == [("one.v2", 3, 5), ("two", 7, 2)]


def test_numbers_for_names() -> None:
    Path("numbers").write_text("two 20\n one.v2  1\n")
    assert main(["-name_id_file=numbers", "", "list", "sizes"]) == 0
    assert Path("sizes").read_text() == "1 3 5\n20 7 2\n"


def test_it_tells_how_far_it_is(messages: Messages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moka.tools.get_image_size.SAY_EVERY", 2)
    Path("list").write_text("img/two.jpg 7\n" * 5)
    assert main(["", "list", "sizes"]) == 0
    counts = [int(m.split()[2]) for m in messages() if "Processed" in m]
    assert counts == [2, 4, 5]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("img/gone.png x", "list: line 1: Could not load img/gone.png: No such file or directory."
         " Take the image out of the list, and make the database of that list."),
        ("img/broken.png x", "list: line 1: Could not load img/broken.png: the image cannot be"),
        ("img/my dog.png\tx", 'list: line 1: the name "my dog" has a blank in it'),
        ("img/two.jpg", 'list: line 1: "img/two.jpg" is not two words'),
    ],
)  # fmt: skip
def test_bad_lists(messages: Messages, line: str, says: str) -> None:
    Path("list").write_text(f"{line}\nimg/two.jpg 7\n")
    before = sorted(os.listdir())
    assert main(["", "list", "sizes"]) == 1
    assert messages()[-1].startswith(f"F {says}")
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("numbers", "says"),
    [
        (None, "numbers: Failed to open name_id_file: No such file or directory."),
        ("two 1\n", "numbers: there is no number for one.v2, line 1 of list."),
        ("two 1\ntwo 2\n", 'numbers: "two 2" is not a name, which stands there once, and a number'),
        ("two x\n", 'numbers: "two x" is not a name'),
        ("two\n", 'numbers: "two" is not a name'),
    ],
)
def test_bad_numbers(messages: Messages, numbers: str | None, says: str) -> None:
    if numbers is not None:
        Path("numbers").write_text(numbers)
    assert main(["-name_id_file=numbers", "", "list", "sizes"]) == 1
    assert messages()[-1].startswith(f"F {says}")
    assert not Path("sizes").exists()


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["gone/", "list", "sizes"], "list: there is no folder gone"),
        (["img", "list", "sizes"], "list: none of the 2 images in it is there; the first would be"
         " img/img/one.v2.png. Is ROOTFOLDER right?"),
        (["", "gone", "sizes"], "gone: No such file or directory. LISTFILE has to be a text file"),
        (["", "list", "gone/sizes"], "gone/sizes: No such file or directory."),
        (["", "list"], "3 arguments are needed, 2 were given."),
    ],
)  # fmt: skip
def test_bad_input(messages: Messages, argv: list[str], says: str) -> None:
    assert main(argv) == 1
    assert messages()[-1].startswith(f"F {says}")
