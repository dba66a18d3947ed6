from __future__ import annotations

import colorsys

import numpy as np
import pytest

from moka.data.distort import Distort, Step, distorted
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, parse_text

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 9, 7), np.uint8)
SSD = (
    "brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5 contrast_lower: 0.5"
    " contrast_upper: 1.5 hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5 saturation_lower: 0.5"
    " saturation_upper: 1.5 random_order_prob: 0.25"
)


def distort(text: str) -> Distort:
    return Distort(parse_text(text, caffe_pb2.DistortionParameter))


def test_brightness_and_contrast_are_cut_off() -> None:
    pixels = np.array([[[0, 10, 200, 255]]], np.uint8)
    assert distorted(pixels, [Step("brightness", 20.4)]).ravel().tolist() == [20, 30, 220, 255]
    assert distorted(pixels, [Step("brightness", -20)]).ravel().tolist() == [0, 0, 180, 235]
    assert distorted(pixels, [Step("contrast", 1.5)]).ravel().tolist() == [0, 15, 255, 255]
    both = distorted(pixels, [Step("contrast", 0.5), Step("brightness", 1)])
    assert both.ravel().tolist() == [1, 6, 101, 129]


@pytest.mark.parametrize("degrees", [20, -20])
def test_hue_and_saturation_against_colorsys(degrees: int) -> None:
    """Colors whose hue stays between red and red, so that nothing is cut off."""
    blue, green, red = 40, 180, 90  # a green
    pixel = np.array([blue, green, red], np.uint8).reshape(3, 1, 1)
    changed = distorted(pixel, [Step("hue", degrees / 2), Step("saturation", 0.5)]).ravel() / 255
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    want = colorsys.hsv_to_rgb(hue + degrees / 360, saturation / 2, value)
    np.testing.assert_allclose(changed[::-1], want, atol=3 / 255)


def test_order() -> None:
    np.testing.assert_array_equal(distorted(IMAGE, [Step("order", order=(2, 0, 1))]),
                                  IMAGE[[2, 0, 1]])  # fmt: skip


def test_what_is_drawn() -> None:
    rng = np.random.default_rng(0)
    draws = [distort(SSD).draw(rng) for _ in range(2000)]
    amounts = {
        kind: np.array([s.amount for steps in draws for s in steps if s.kind == kind])
        for kind in ("brightness", "contrast", "hue", "saturation", "order")
    }
    for kind, (low, high) in {"brightness": (-32, 32), "hue": (-18, 18), "contrast": (0.5, 1.5),
                              "saturation": (0.5, 1.5)}.items():  # fmt: skip
        assert 900 < len(amounts[kind]) < 1100
        assert low <= amounts[kind].min() < low + (high - low) / 20
        assert high - (high - low) / 20 < amounts[kind].max() <= high
    assert 400 < len(amounts["order"]) < 600
    names = ["".join(s.kind[0] for s in steps if s.kind != "order") for steps in draws]
    whole = [name for name in names if len(name) == 4]
    assert set(whole) == {"bcsh", "bshc"}
    assert all(s.kind != "order" for steps in draws for s in steps[:-1])


def test_nothing_is_drawn_of_an_empty_message() -> None:
    rng = np.random.default_rng(0)
    assert all(distort("").draw(rng) == [] for _ in range(20))
    np.testing.assert_array_equal(distorted(IMAGE, []), IMAGE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("brightness_delta: -1", "brightness_delta must be >= 0, got -1"),
        ("hue_delta: -1", "hue_delta must be >= 0"),
        ("contrast_lower: 2 contrast_upper: 1", "contrast_upper must hold, got 2 and 1"),
        ("saturation_lower: -1", "saturation_upper must hold, got -1 and 0"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        distort(text)


def test_images_that_cannot_be_changed() -> None:
    with pytest.raises(DataError, match="hue of images with 3 channels, this one has 1"):
        distorted(IMAGE[:1], [Step("hue", 1)])
    with pytest.raises(DataError, match="order of images with 3 channels, this one has 2"):
        distorted(IMAGE[:2], [Step("order", order=(0, 1, 2))])
    with pytest.raises(DataError, match="images of bytes, this one has floats"):
        distorted(IMAGE.astype(np.float32), [Step("brightness", 1)])
