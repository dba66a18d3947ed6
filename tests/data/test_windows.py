from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moka.data.windows import Box, Placement, place_window, read_windows
from moka.errors import DataError

TWO = """# 0
a.png
3
24
30
2
4 0.9 5 4 20 18
0 0.1 2 3 12 10
# 1
sub/b.png
3
10 20
1  2 0.25  0 0 19 9
"""


def test_read_windows(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text(TWO)
    got = read_windows(tmp_path / "w.txt")
    assert got.images == ["a.png", "sub/b.png"]
    assert got.image.tolist() == [0, 0, 1]
    assert got.label.tolist() == [4, 0, 2]
    assert got.overlap.tolist() == [np.float32(0.9), np.float32(0.1), 0.25]
    assert got.boxes.tolist() == [[5, 4, 20, 18], [2, 3, 12, 10], [0, 0, 19, 9]]


def test_an_image_without_windows(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("# 0 a.png 3 9 9 0\n# 1 b.png 3 9 9 1\n1 1 0 0 2 2\n")
    got = read_windows(tmp_path / "w.txt")
    assert (got.images, got.image.tolist()) == (["a.png", "b.png"], [1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Window file is empty"),
        (TWO + "#2 c.png 3 5 5 0", 'block of image 2 cannot be read: "#2" where "#" was expected'),
        (TWO[: TWO.index("24")], "block of image 0 cannot be read: the file ends within it"),
        (TWO[:-3], "block of image 1 cannot be read: the file ends within it"),
        (TWO.replace("a.png", "my dog.png"), r"image 0 cannot be read: .*'dog.png'.*without blank"),
        (TWO.replace("0.25", "half"), "image 1 cannot be read: .*'half'"),
        (TWO.replace("19", "19.5"), "image 1 cannot be read: .*whole numbers"),
        (TWO.replace("0.25", "nan"), "image 1 cannot be read: numbers have to be finite"),
        (TWO.replace("19", "-inf"), "image 1 cannot be read: numbers have to be finite"),
        (TWO.replace("19", "1e39"), "image 1 cannot be read: numbers have to be finite"),
        (TWO.replace("19", str(2**24)), "image 1 cannot be read: .* below 16777216"),
        (TWO + "# 2 c.png 3 5 5 -1", "image 2 cannot be read: -1 windows"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "w.txt").write_text(text)
    with pytest.raises(DataError, match=rf"w\.txt: .*{says}"):
        read_windows(tmp_path / "w.txt")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"w\.txt: No such file"):
        read_windows(tmp_path / "w.txt")


def test_warp_stretches_the_window_itself() -> None:
    window = Box(5, 4, 20, 18)
    assert place_window(window, (24, 30), 8) == Placement(window, 8, 8, 0, 0)


# Worked out by hand. With s = crop / (crop - 2 pad), half sizes and center:
PLACED: dict[str, tuple[Box, tuple[int, int], int, dict[str, Any], Placement]] = {
    # half 8, 7.5; center 13, 11.5; s = 5/3: x 13 -+ 13.33 = 0..26, y 11.5 -+ 12.5 = -1..24, so one
    # row is missing above and below; 26 rows are 10 pixels: 24 are 9.23, 1 is 0.38
    "context above and below": (
        Box(5, 4, 20, 18),
        (24, 30),
        10,
        {"context_pad": 2},
        Placement(Box(0, 0, 26, 23), 9, 10, 0, 0),
    ),
    # half 5.5, 4; center 7.5, 7: x 7.5 -+ 9.17 = -2..17, y 7 -+ 6.67 = 0..14; 20 columns are 10
    "context on the left": (
        Box(2, 3, 12, 10),
        (24, 30),
        10,
        {"context_pad": 2},
        Placement(Box(0, 0, 17, 14), 10, 9, 0, 1),
    ),
    "context on the left, mirrored": (
        Box(2, 3, 12, 10),
        (24, 30),
        10,
        {"context_pad": 2, "mirror": True},
        Placement(Box(0, 0, 17, 14), 10, 9, 0, 0),
    ),
    # center 22.5: x 22.5 -+ 9.17 = 13..32, of which 30 to 32 are missing; 17 columns are 8.5 = 9
    "context on the right": (
        Box(17, 3, 27, 10),
        (24, 30),
        10,
        {"context_pad": 2},
        Placement(Box(13, 0, 29, 14), 10, 9, 0, 0),
    ),
    # and the missing three 1.5 = 2, so that there is room for 8 only
    "context on the right, mirrored": (
        Box(17, 3, 27, 10),
        (24, 30),
        10,
        {"context_pad": 2, "mirror": True},
        Placement(Box(13, 0, 29, 14), 10, 8, 0, 2),
    ),
    # half 5.5; center 7.5, 7: x 2..13, y 1.5..12.5 = 2..13
    "square": (
        Box(2, 3, 12, 10),
        (24, 30),
        8,
        {"square": True},
        Placement(Box(2, 2, 13, 13), 8, 8, 0, 0),
    ),
    # half 2.5; center 2, 2.5: x -0.5 = -1 (away from zero)..4.5 = 5, y 0..5; 7 columns are 14
    "halves are rounded away from zero": (
        Box(0, 0, 3, 4),
        (9, 9),
        14,
        {"square": True},
        Placement(Box(0, 0, 5, 5), 14, 12, 0, 2),
    ),
    # half 1.5; center 1.5, 7; s = 5/3: x -1..4, y 4.5 = 5..9.5 = 10; 6 columns are 15: the image's
    # five are 12.5 = 13 and the missing one 2.5 = 3, which is one too many
    "rounding may leave no room": (
        Box(0, 6, 2, 7),
        (8, 6),
        15,
        {"context_pad": 3, "square": True},
        Placement(Box(0, 5, 4, 7), 8, 12, 0, 3),
    ),
    "rounding may leave no room below": (
        Box(6, 0, 7, 2),
        (6, 8),
        15,
        {"context_pad": 3, "square": True},
        Placement(Box(5, 0, 7, 4), 12, 8, 3, 0),
    ),
    # half 12.5, center 19.5, s = 1.2: 19.5 - 15 is 4.5 = 5, but 1.2 in single precision is a bit
    # more, which makes it 4 in both directions
    "single precision decides": (
        Box(19, 6, 19, 30),
        (35, 23),
        12,
        {"context_pad": 1, "square": True},
        Placement(Box(4, 3, 22, 34), 12, 7, 0, 0),
    ),
    # the whole image is less than half a pixel wide in the crop
    "nothing is left": (
        Box(7, 5, 8, 38),
        (39, 14),
        11,
        {"context_pad": 5, "square": True},
        Placement(Box(0, 0, 13, 38), 1, 0, 5, 5),
    ),
}


@pytest.mark.parametrize("name", PLACED)
def test_place(name: str) -> None:
    window, size, crop, options, wanted = PLACED[name]
    assert place_window(window, size, crop, **options) == wanted


@pytest.mark.parametrize(
    ("window", "options"),
    [
        (Box(0, 0, 10, 5), {}),
        (Box(0, 0, 5, 10), {}),
        (Box(-1, 0, 5, 5), {}),
        (Box(0, -1, 5, 5), {}),
        (Box(5, 0, 4, 5), {}),
        (Box(0, 5, 5, 4), {}),
        (Box(20, 0, 25, 5), {"context_pad": 1}),
        (Box(0, 20, 5, 25), {"square": True}),
    ],
)
def test_windows_beyond_the_image(window: Box, options: dict[str, Any]) -> None:
    corners = " ".join(str(n) for n in window)
    with pytest.raises(DataError, match=rf"window {corners} is not inside the image \(10 x 10\)"):
        place_window(window, (10, 10), 6, **options)
