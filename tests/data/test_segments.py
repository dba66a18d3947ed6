from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.data.segments import FLOW, PATTERNS, RGB, SegmentFiles, Snippets, Video, read_videos
from moka.errors import DataError


def test_lists_of_videos(tmp_path: Path) -> None:
    source = tmp_path / "list.txt"
    source.write_text("a 12 3\n\nb 5 0\n")
    assert read_videos(source) == [Video("a", 12, 3, 1), Video("b", 5, 0, 3)]


@pytest.mark.parametrize("line", ["a 3", "a b 3", "a 1 2 3"])
def test_lines_of_another_form(tmp_path: Path, line: str) -> None:
    source = tmp_path / "list.txt"
    source.write_text(f"a 1 2\n{line}\n")
    with pytest.raises(DataError, match=r"line 2.*is not a folder, its number of frames and a lab"):
        read_videos(source)


@pytest.mark.parametrize(
    ("segments", "length", "frames", "wanted"),
    [
        (3, 1, 30, [5, 15, 25]),
        (3, 5, 30, [3, 13, 23]),
        (3, 5, 32, [3, 13, 23]),  # the last two frames belong to no segment
        (1, 4, 4, [0]),
        (3, 5, 14, [1, 1, 1]),  # a segment of 4 frames
    ],
)
def test_the_middle_of_each_segment(
    segments: int, length: int, frames: int, wanted: list[int]
) -> None:
    assert Snippets(segments, length, RGB, PATTERNS[RGB]).starts(frames, None) == wanted


def test_a_random_place_in_each_segment() -> None:
    snippets = Snippets(3, 5, RGB, PATTERNS[RGB])
    rng = np.random.default_rng(0)
    found = np.array([snippets.starts(24, rng) for _ in range(100)])
    assert [set(column) for column in found.T] == [
        {0, 1, 2, 3}, {8, 9, 10, 11}, {16, 17, 18, 19}
    ]  # fmt: skip
    assert snippets.starts(14, rng) == [1, 1, 1]


def test_names_of_frames() -> None:
    assert Snippets(3, 2, RGB, "img_%05d.jpg").files(7) == ["img_00008.jpg", "img_00009.jpg"]
    flow = Snippets(3, 2, FLOW, PATTERNS[FLOW])
    assert flow.files(0) == [
        "flow_x_0001.jpg", "flow_y_0001.jpg", "flow_x_0002.jpg", "flow_y_0002.jpg"
    ]  # fmt: skip
    assert (flow.channels, Snippets(3, 2, RGB, "%d").channels) == (12, 18)
    assert Snippets(3, 2, RGB, "%d", is_gray=True).channels == 6


def files(folder: Path, *, size: tuple[int, int] | None = None) -> SegmentFiles:
    for k in range(1, 7):
        cv2.imwrite(str(folder / f"{k}.png"), np.full((4, 6, 3), 10 * k, np.uint8))
    source = folder / "list.txt"
    source.write_text(f"{folder} 6 2\n{folder} 9 1\n")
    snippets = Snippets(2, 1, RGB, "%d.png")
    return SegmentFiles(source, snippets, size=size, root_folder="", shuffle=False)


def test_frames_of_a_video(tmp_path: Path) -> None:
    made = files(tmp_path)
    image = made.frames(made.videos[0], None)
    assert image.shape == (6, 4, 6)
    assert image[:, 0, 0].tolist() == [20, 20, 20, 50, 50, 50]
    assert files(tmp_path, size=(2, 3)).frames(made.videos[0], None).shape == (6, 2, 3)


def test_a_missing_frame(tmp_path: Path) -> None:
    made = files(tmp_path)
    with pytest.raises(DataError, match=r"line 2: .*7\.png"):
        made.frames(made.videos[1], None)


def test_frames_of_different_sizes(tmp_path: Path) -> None:
    made = files(tmp_path)
    cv2.imwrite(str(tmp_path / "5.png"), np.zeros((5, 5, 3), np.uint8))
    with pytest.raises(DataError, match=r"line 1: .* has frames of different sizes"):
        made.frames(made.videos[0], None)
