from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

import caffe
from moka.errors import DataError, UsageError
from moka.types import Array

NET = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" std: 0.3 } } }
"""
IMAGE = np.random.default_rng(4).integers(0, 256, (20, 16, 3), np.uint8)
MEAN = np.array([10.0, 20.0, 30.0])  # BGR, of 0 to 255


@pytest.fixture(autouse=True)
def _net_and_images() -> None:
    Path("deploy.prototxt").write_text(NET)
    caffe.Net("deploy.prototxt", caffe.TEST).save("w.caffemodel")
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, IMAGE[::-1] if name == "b.png" else IMAGE)


def detector(**more: Any) -> caffe.Detector:
    return caffe.Detector("deploy.prototxt", "w.caffemodel", **more)


def test_windows() -> None:
    """Three windows, batches of two: each stretched to the net's input."""
    made = detector(raw_scale=255, mean=MEAN, channel_swap=(2, 1, 0))
    windows = [[0, 0, 6, 6], [3, 4, 15, 10]]
    files: list[tuple[str, Any]] = [("a.png", np.array(windows)), ("b.png", [[2, 2, 5, 6]])]
    found = made.detect_windows(iter(files))
    assert [list(d) for d in found] == [["window", "prediction", "filename"]] * 3
    assert [d["filename"] for d in found] == ["a.png", "a.png", "b.png"]
    assert [list(d["window"]) for d in found] == [*windows, [2, 2, 5, 6]]
    weight, bias = (blob.data for blob in made.params["ip"])
    for d in found:
        y1, x1, y2, x2 = d["window"]
        part = caffe.io.load_image(d["filename"])[y1:y2, x1:x2]
        bgr = caffe.io.resize_image(part, (6, 6))[..., ::-1]
        x = (bgr * 255 - MEAN).transpose(2, 0, 1).ravel()
        np.testing.assert_allclose(d["prediction"], weight @ x + bias, rtol=1e-3, atol=1e-2)


def test_no_windows() -> None:
    assert detector().detect_windows([("a.png", [])]) == []


def test_crop_without_context() -> None:
    image = caffe.io.load_image("a.png")
    np.testing.assert_array_equal(detector().crop(image, [3, 4, 9, 6]), image[3:9, 4:6])


def test_crop_with_context() -> None:
    """The window, 3 x 3 about (6, 7), grows by 6 / (6 - 2): 9 x 9 less the border that the original
    counts twice, so 6 x 6 from (3, 4) on."""
    image = caffe.io.load_image("a.png")
    crop = detector(context_pad=1).crop(image, np.array([4, 5, 7, 8]))
    np.testing.assert_array_equal(crop, image[3:9, 4:10])


def test_context_outside_of_the_image() -> None:
    """About (2, 2), half of it 3: rows and columns -1 to 5 of 7, of which 6 for the crop of 6; one
    pixel at the top and at the left is not there and has the mean, as of RGB from 0 to 1."""
    image = caffe.io.load_image("a.png")
    made = detector(context_pad=1, raw_scale=255, mean=MEAN, channel_swap=(2, 1, 0))
    np.testing.assert_allclose(made.crop_mean, np.reshape([30, 20, 10], (1, 1, 3)) / 255)
    crop = made.crop(image, np.array([0, 0, 3, 3]))
    want = np.ones((6, 6, 3)) * made.crop_mean
    want[1:, 1:] = caffe.io.resize_image(image[:5, :5], (5, 5))
    np.testing.assert_allclose(crop, want, rtol=1e-6)


def test_context_beyond_the_end_of_the_image() -> None:
    """Rows 16 to 22 of 20 and columns 12 to 18 of 16: round(5 * 6 / 7) pixels of six are there."""
    image = caffe.io.load_image("a.png")
    made = detector(context_pad=1)
    crop = made.crop(image, np.array([17, 13, 20, 16]))
    assert crop.shape == (6, 6, 3)
    inside = caffe.io.resize_image(image[16:20, 12:16], (4, 4))
    np.testing.assert_array_equal(crop[:4, :4], inside)
    assert not crop[4:].any()
    assert not crop[:, 4:].any()


def test_context_keeps_to_the_crop() -> None:
    """About 1.5, half of it 2.7: rows -1 to 4 of 10, of which 1.5 pixels are one of the image. Two
    are free, and of the eight that five rows would take there is room for seven."""
    Path("deploy.prototxt").write_text(NET.replace("dim: 6 dim: 6", "dim: 9 dim: 9"))
    caffe.Net("deploy.prototxt", caffe.TEST).save("w.caffemodel")
    made = detector(context_pad=2)
    image = caffe.io.load_image("a.png")[:10, :10]
    crop = made.crop(image, np.array([0, 0, 2, 2]))
    np.testing.assert_array_equal(crop[2:, 2:], caffe.io.resize_image(image[:4, :4], (7, 7)))
    assert not crop[:2].any()
    assert not crop[:, :2].any()


def test_a_mean_image_is_the_padding() -> None:
    mean = np.random.default_rng(1).random((3, 6, 6)) * 255
    made = detector(context_pad=1, mean=mean, channel_swap=(1, 2, 0), raw_scale=255)
    want = np.empty((6, 6, 3))
    for channel, source in enumerate((1, 2, 0)):
        want[..., source] = mean[channel] / 255
    np.testing.assert_allclose(made.crop_mean, want)


@pytest.mark.parametrize("context_pad", [None, 1])
def test_a_window_outside_of_the_image(context_pad: int | None) -> None:
    made = detector(context_pad=context_pad)
    with pytest.raises(ValueError, match=r"a.png: the window \[30, 2, 40, 5\] .* 20 x 16"):
        made.detect_windows([("a.png", [[30, 2, 40, 5]])])


def test_a_context_that_leaves_nothing() -> None:
    with pytest.raises(UsageError, match="context_pad 3 on each side leaves nothing of a crop of"):
        detector(context_pad=3)


def test_images_that_cannot_be_read() -> None:
    with pytest.raises(FileNotFoundError):
        detector().detect_windows([("gone.png", [[0, 0, 2, 2]])])
    Path("c.png").write_text("?")
    with pytest.raises(DataError, match=r"c\.png"):
        detector().detect_windows([("c.png", [[0, 0, 2, 2]])])


def test_selective_search(monkeypatch: pytest.MonkeyPatch) -> None:
    made = detector()
    with pytest.raises(UsageError, match="needs the module selective_search_ijcv_with_python and"):
        made.detect_selective_search(["a.png"])
    asked = []

    def get_windows(files: list[str], cmd: str) -> list[Array]:
        asked.append((files, cmd))
        return [np.array([[0, 0, 4, 4]])]

    module = SimpleNamespace(get_windows=get_windows)
    monkeypatch.setitem(sys.modules, "selective_search_ijcv_with_python", module)
    path = str(Path("a.png").absolute())
    assert [d["filename"] for d in made.detect_selective_search(["a.png"])] == [path]
    assert asked == [([path], "selective_search_rcnn")]
