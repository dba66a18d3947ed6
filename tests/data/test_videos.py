from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.data import videos
from moka.data.decode import Decoder
from moka.data.videos import RunningFrames, VideoClip, frames_of, read_clips, read_frames
from moka.errors import DataError
from moka.types import Array


@pytest.fixture
def video(tmp_path: Path) -> str:
    """Seven frames of 16 x 24, brighter by 30 from each to the next."""
    path = str(tmp_path / "video.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"MJPG"), 10, (24, 16))
    for k in range(7):
        writer.write(np.full((16, 24, 3), 10 + 30 * k, np.uint8))
    writer.release()
    return path


def levels(frames: list[Array]) -> list[int]:
    """The number of each frame, from its brightness."""
    return [round((float(frame.mean()) - 10) / 30) for frame in frames]


def test_frames_of_a_file(video: str) -> None:
    frames = list(frames_of(video))
    assert {frame.shape for frame in frames} == {(3, 16, 24)}
    assert levels(frames) == [0, 1, 2, 3, 4, 5, 6]
    assert len(list(islice(frames_of(video), 2))) == 2


def test_a_part_of_a_file(video: str) -> None:
    assert levels(read_frames(video, 3, 4, Decoder(color=True))) == [2, 3, 4, 5]
    (gray,) = read_frames(video, 7, 1, Decoder(color=False, size=(4, 5)))
    assert gray.shape == (1, 4, 5)
    assert levels([gray]) == [6]


def test_a_folder_of_frames(tmp_path: Path) -> None:
    for k in range(12):
        cv2.imwrite(str(tmp_path / f"image_{k + 1:04}.jpg"), np.full((4, 4), 10 + 20 * k, np.uint8))
    (tmp_path / "notes.txt").write_text("not a frame")
    frames = read_frames(str(tmp_path), 9, 3, Decoder(color=False))
    assert [round((float(frame.mean()) - 10) / 20) for frame in frames] == [8, 9, 10]


def test_running_frames_have_names(video: str) -> None:
    """A frame is named by the video and its number among those that are kept."""
    running = RunningFrames(video, skip=2, size=None)
    records = list(islice(running.records(0, None), 5))
    assert levels([image for _, image in records]) == [0, 3, 6, 0, 3]
    assert [running.name(record) for record in records[2:4]] == [f"{video} 2", f"{video} 3"]


def test_a_file_without_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(videos, "frames_of", lambda video: iter(()))
    with pytest.raises(DataError, match=r"empty\.avi: there is no frame in this video"):
        next(RunningFrames("empty.avi", skip=0, size=None).records(0, None))


def test_a_video_that_is_too_short(video: str) -> None:
    with pytest.raises(DataError, match="ends before frame 8: a clip has 3 frames from frame 6 on"):
        read_frames(video, 6, 3, Decoder(color=True))


def test_a_file_that_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "none.avi"
    with pytest.raises(DataError, match=r"Could not open the video .*none\.avi"):
        list(frames_of(str(path)))


def test_lists_of_clips(tmp_path: Path) -> None:
    source = tmp_path / "list.txt"
    source.write_text("a.avi 5 1\n\nfolder 2\n")
    assert read_clips(source) == [VideoClip("a.avi", 5, 1, 1), VideoClip("folder", 1, 2, 3)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.avi", "is not a path, the first frame and a label"),
        ("a.avi x", "is not a path, the first frame and a label"),
        ("a.avi 1 2 3", "is not a path, the first frame and a label"),
        ("a.avi 0 2", "the first frame is 1, got 0"),
    ],
)
def test_lines_of_another_form(tmp_path: Path, line: str, message: str) -> None:
    source = tmp_path / "list.txt"
    source.write_text(f"b.avi 1 1\n{line}\n")
    with pytest.raises(DataError, match=f"line 2.*{message}"):
        read_clips(source)
