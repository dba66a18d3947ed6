from __future__ import annotations

import cv2
import numpy as np
import pytest

from moka.data.noise import Noise
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 12, 10), np.uint8)
SMOOTH = np.stack([cv2.GaussianBlur(plane, (5, 5), 2) // 2 + 40 for plane in IMAGE])


def noisy(text: str, image: Array = IMAGE, seed: int = 0) -> Array:
    noise = Noise(parse_text(text, caffe_pb2.NoiseParameter))
    return noise.apply(image, np.random.default_rng(seed))


def test_an_empty_message_changes_nothing() -> None:
    np.testing.assert_array_equal(noisy(""), IMAGE)
    np.testing.assert_array_equal(noisy("prob: 0.5", IMAGE[:1]), IMAGE[:1])


def test_decolorize() -> None:
    blue, green, red = IMAGE.astype(np.float64)
    gray = 0.114 * blue + 0.587 * green + 0.299 * red
    for plane in noisy("decolorize: true"):
        np.testing.assert_allclose(plane, gray, atol=0.6)


def test_posterize_and_inverse() -> None:
    assert set(np.unique(noisy("posterize: true"))) == {32, 96, 160, 224}
    assert (np.abs(noisy("posterize: true").astype(int) - IMAGE) <= 32).all()
    np.testing.assert_array_equal(noisy("inverse: true"), 255 - IMAGE)
    np.testing.assert_array_equal(
        noisy("posterize: true inverse: true"), 255 - noisy("posterize: true")
    )


def test_erode_takes_the_least_of_the_cross() -> None:
    padded = np.pad(IMAGE, ((0, 0), (1, 1), (1, 1)), constant_values=255)
    shifts = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
    want = np.min([padded[:, y : y + 12, x : x + 10] for y, x in shifts], axis=0)
    np.testing.assert_array_equal(noisy("erode: true"), want)


def test_blur_and_jpeg_come_close() -> None:
    for text in ("gauss_blur: true", "jpeg: 90"):
        for image in (SMOOTH, SMOOTH[:1]):
            changed = noisy(text, image)
            assert changed.shape == image.shape
            assert 0 < np.abs(changed.astype(int) - image).mean() < 12
    worse = np.abs(noisy("jpeg: 5", SMOOTH).astype(int) - SMOOTH).mean()
    assert worse > np.abs(noisy("jpeg: 95", SMOOTH).astype(int) - SMOOTH).mean()


@pytest.mark.parametrize("name", ["hist_eq", "clahe"])
def test_contrast_is_spread_in_luma_alone(name: str) -> None:
    dull = (SMOOTH // 8 + 100).astype(np.uint8)
    for image in (dull, dull[:1]):
        changed = noisy(f"{name}: true", image)
        assert changed.shape == image.shape
        assert changed.std() > image.std() * 1.5
    gray = np.repeat(dull[:1], 3, 0)
    spread = noisy(f"{name}: true", gray)
    assert (np.ptp(spread, axis=0) <= 1).all()  # it stays gray


def test_salt_and_pepper() -> None:
    text = "saltpepper: true saltpepper_param { fraction: 0.2 value: 1 value: 2 value: 300 }"
    changed = noisy(text)
    hit = (changed == np.array([1, 2, 255], np.uint8).reshape(3, 1, 1)).all(0)
    assert 12 <= hit.sum() <= 24  # 24 draws, some on one place
    np.testing.assert_array_equal(changed[:, ~hit], IMAGE[:, ~hit])
    np.testing.assert_array_equal(changed, noisy(text))
    assert (changed != noisy(text, seed=1)).any()
    gray = noisy("saltpepper: true saltpepper_param { fraction: 1 value: 9 }", IMAGE[:1])
    assert (gray == 9).sum() > 60


def test_color_spaces() -> None:
    red = np.zeros((3, 1, 1), np.uint8)
    red[2] = 255
    assert noisy("convert_to_hsv: true", red).ravel().tolist() == [0, 255, 255]
    lab = noisy("convert_to_lab: true", red)
    assert lab.dtype == np.float32
    np.testing.assert_allclose(lab.ravel(), [53.24, 80.09, 67.2], atol=0.2)  # of sRGB red


@pytest.mark.parametrize(
    ("text", "image", "message"),
    [
        ("decolorize: true", IMAGE[:1], r"noise_param { decolorize } needs 3 channels, .* has 1"),
        ("convert_to_lab: true", IMAGE[:2], "convert_to_lab } needs 3 channels"),
        ("inverse: true", IMAGE.astype(np.float32), "images of bytes, this one has floats"),
        (
            "saltpepper: true saltpepper_param { fraction: 1 value: 9 value: 8 }",
            IMAGE,
            "give 1 value or 3, one a channel, got 2",
        ),
    ],
)
def test_images_that_cannot_be_changed(text: str, image: Array, message: str) -> None:
    with pytest.raises(DataError, match=message):
        noisy(text, image)


def test_refused() -> None:
    with pytest.raises(NetError, match=r"saltpepper needs saltpepper_param { value }"):
        noisy("saltpepper: true")
    with pytest.raises(NetError, match="type: absolute } is not supported"):
        noisy("saltpepper: true saltpepper_param { value: 1 type: absolute }")
