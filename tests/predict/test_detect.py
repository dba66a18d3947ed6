from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from moka.errors import DataError, UsageError
from moka.predict.crops import cut_window
from moka.predict.detect import detect_windows, selective_search
from moka.predict.images import load_image
from moka.types import Array, Floats

IMAGE = np.random.default_rng(4).integers(0, 256, (20, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def _images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", IMAGE)
    cv2.imwrite("b.png", IMAGE[::-1])


def prepare(crop: Array) -> Floats:
    """The mean of each channel, and the size."""
    return np.array([*crop.mean((0, 1)), *crop.shape[:2]], np.float32)


def test_windows_of_several_images() -> None:
    windows = [[0, 0, 6, 6], [3, 4, 15, 10]]
    files: list[tuple[str, Any]] = [("a.png", np.array(windows)), ("b.png", [[2, 2, 5, 6]])]
    found = detect_windows(iter(files), cut_window, prepare, lambda batch: batch * 2)
    assert [d.filename for d in found] == ["a.png", "a.png", "b.png"]
    for d, (y1, x1, y2, x2) in zip(found, [*windows, [2, 2, 5, 6]], strict=True):
        assert np.asarray(d.window).tolist() == [y1, x1, y2, x2]
        part = load_image(d.filename)[y1:y2, x1:x2]
        np.testing.assert_allclose(d.prediction, 2 * prepare(part), rtol=1e-5)


def test_no_windows() -> None:
    assert detect_windows([("a.png", [])], cut_window, prepare, lambda batch: batch) == []


def test_what_cannot_be_detected() -> None:
    def run(name: str) -> None:
        detect_windows([(name, [[30, 2, 40, 5]])], cut_window, prepare, lambda batch: batch)

    with pytest.raises(UsageError, match=r"^a\.png: the window \[30, 2, 40, 5\] .* 20 x 16"):
        run("a.png")
    with pytest.raises(FileNotFoundError):
        run("gone.png")
    Path("c.png").write_text("?")
    with pytest.raises(DataError, match=r"c\.png"):
        run("c.png")


def test_selective_search(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="needs the module selective_search_ijcv_with_python and"):
        selective_search(["a.png"])
    asked = []

    def get_windows(files: list[str], cmd: str) -> list[Array]:
        asked.append((files, cmd))
        return [np.array([[0, 0, 4, 4]])]

    module = SimpleNamespace(get_windows=get_windows)
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", module)
    path = str(Path("a.png").absolute())
    assert [(file, w.tolist()) for file, w in selective_search(["a.png"])] == [
        (path, [[0, 0, 4, 4]])
    ]
    assert asked == [([path], "selective_search_rcnn")]
