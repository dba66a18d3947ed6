"""Encoded images as a net's input takes them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from moka.data.decode import resize
from moka.errors import NetError, UsageError
from moka.predict.crops import oversample
from moka.predict.images import load_image
from moka.predict.prepare import image_preparation
from moka.serving.errors import BadRequestError
from moka.serving.image_input import ImageInput, Look
from moka.tools.classification import prepare, read_image_of_net
from moka.types import Array, Floats, Shape

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (9, 13, 3)).astype(np.uint8)  # BGR
PNG = bytes(cv2.imencode(".png", IMAGE)[1])
MEAN = np.array([104, 117, 123], np.float32)


def filled(shape: Shape, look: Look, data: bytes = PNG) -> Floats:
    blob = np.full(shape, np.nan, np.float32)
    ImageInput(shape, look).fill(data, blob, "an image")
    return blob


def test_as_the_program_classification_does() -> None:
    expected = prepare(IMAGE.transpose(2, 0, 1), MEAN, (6, 7))
    np.testing.assert_array_equal(filled((3, 6, 7), Look(mean=MEAN)), expected)


def test_its_own_size_is_told() -> None:
    blob = np.zeros((3, 6, 7), np.float32)
    assert ImageInput((3, 6, 7), Look()).fill(PNG, blob, "x") == (9, 13)


def test_factors_before_and_after_the_mean() -> None:
    found = filled((3, 9, 13), Look(mean=np.full(3, 0.5), raw_scale=1, scale=4))
    expected = (IMAGE.transpose(2, 0, 1) / 255 - 0.5) * 4
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("swap", [(2, 1, 0), (0, 1, 2), (1, 2, 0)])
def test_the_order_of_channels(swap: tuple[int, ...]) -> None:
    rgb = IMAGE[:, :, ::-1]
    expected = rgb.transpose(2, 0, 1)[list(swap)]
    np.testing.assert_array_equal(filled((3, 9, 13), Look(channel_swap=swap)), expected)


def test_the_middle_of_a_resized_image_with_a_mean_image_of_that_size() -> None:
    mean = RNG.uniform(0, 255, (3, 8, 10)).astype(np.float32)
    found = filled((3, 4, 6), Look(mean=mean, resize=(8, 10)))
    whole = resize(IMAGE.transpose(2, 0, 1), 8, 10).astype(np.float32) - mean
    np.testing.assert_array_equal(found, whole[:, 2:6, 2:8])


@pytest.mark.parametrize("mean", [None, MEAN, RNG.uniform(0, 255, (3, 4, 6))])
def test_the_ten_crops_of_the_commands(mean: Array | None) -> None:
    taker = ImageInput((3, 4, 6), Look(mean=mean, resize=(9, 13), scale=0.5))
    preparation = image_preparation((3, 4, 6), mean=mean, input_scale=0.5)
    pixels, _ = taker.opened(PNG, "x")
    blob = np.zeros((3, 4, 6), np.float32)
    for number, crop in enumerate(oversample([IMAGE], (4, 6))):
        taker.fill_pixels(pixels, blob, number)
        np.testing.assert_allclose(blob, preparation.prepare(crop), atol=1e-4)


def test_a_mean_image_of_the_resized_size_belongs_to_each_crop() -> None:
    mean = RNG.uniform(0, 255, (3, 9, 13)).astype(np.float32)
    taker = ImageInput((3, 4, 6), Look(mean=mean, resize=(9, 13)))
    pixels, _ = taker.opened(PNG, "x")
    blob = np.zeros((3, 4, 6), np.float32)
    taker.fill_pixels(pixels, blob, 1)
    corner = IMAGE.transpose(2, 0, 1)[:, :4, -6:] - mean[:, :4, -6:]
    np.testing.assert_array_equal(blob, corner)


def test_gray_nets_get_gray_images() -> None:
    gray = cv2.cvtColor(IMAGE, cv2.COLOR_BGR2GRAY)
    png = bytes(cv2.imencode(".png", gray)[1])
    np.testing.assert_array_equal(filled((1, 9, 13), Look(), png)[0], gray)
    np.testing.assert_allclose(filled((1, 9, 13), Look())[0], gray, atol=1)


def test_what_cannot_be_decoded() -> None:
    with pytest.raises(BadRequestError, match="the image cannot be decoded"):
        filled((3, 4, 4), Look(), PNG[:60])


@pytest.mark.parametrize(
    ("shape", "look", "kind", "words"),
    [
        ((4, 8, 8), Look(), NetError, "one or three channels, the input takes"),
        ((3, 8, 8), Look(channel_swap=(0, 1)), UsageError, "Channel swap"),
        ((3, 8, 8), Look(channel_swap=(0, 0, 1)), UsageError, "not of 0, 1, 2"),
        ((3, 8, 8), Look(resize=(4, 4)), UsageError, "larger than the image"),
        ((3, 8, 8), Look(mean=np.zeros(2)), UsageError, "Mean channels incompatible"),
    ],
)
def test_what_does_not_fit(shape: Shape, look: Look, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        ImageInput(shape, look)


def test_a_mean_of_channels_and_a_mean_image_of_another_size() -> None:
    for mean in (MEAN, np.full((3, 5, 5), 7.0)):
        found: Array = filled((3, 9, 13), Look(mean=mean))
        per_channel = mean.reshape(3, -1)[:, :1, None]
        np.testing.assert_allclose(found, IMAGE.transpose(2, 0, 1) - per_channel, atol=1e-4)


# --- images of all modes: the numbers of the commands for the same file ---


def saved(image: Image.Image, form: str, **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **more)
    return file.getvalue()


def in_all_modes() -> dict[str, bytes]:
    """One image as files of all modes that cameras and programs write."""
    rgb = Image.fromarray(np.ascontiguousarray(IMAGE[:, :, ::-1]))
    alpha = rgb.copy()
    alpha.putalpha(Image.fromarray(IMAGE[:, :, 0]))
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    deep = IMAGE.astype(np.uint16) * 251
    return {
        "jpeg": saved(rgb, "JPEG", quality=90),
        "gray jpeg": saved(rgb.convert("L"), "JPEG"),
        "cmyk jpeg": saved(rgb.convert("CMYK"), "JPEG"),
        "progressive jpeg": saved(rgb, "JPEG", progressive=True),
        "turned jpeg": saved(rgb, "JPEG", exif=turned),
        "png": PNG,
        "alpha png": saved(alpha, "PNG"),
        "gray alpha png": saved(alpha.convert("LA"), "PNG"),
        "palette png": saved(rgb.quantize(16), "PNG"),
        "clear palette png": saved(rgb.quantize(16), "PNG", transparency=3),
        "one bit png": saved(rgb.convert("1"), "PNG"),
        "16 bit png": bytes(cv2.imencode(".png", deep)[1]),
        "16 bit gray png": bytes(cv2.imencode(".png", deep[:, :, 0])[1]),
        "gif": saved(rgb, "GIF"),
        "moving gif": saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(180)]),
        "bmp": saved(rgb, "BMP"),
        "palette bmp": saved(rgb.quantize(16), "BMP"),
        "webp": saved(rgb, "WEBP", lossless=True),
        "alpha webp": saved(alpha, "WEBP", lossless=True),
        "ppm": saved(rgb, "PPM"),
    }


MODES = in_all_modes()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", MODES)
def test_any_mode_as_the_program_classification_reads_it(
    mode: str, channels: int, tmp_path: Path
) -> None:
    file = tmp_path / "image"
    file.write_bytes(MODES[mode])
    mean = np.array([104, 117, 123], np.float32)[:channels]
    image = read_image_of_net(file, channels)
    assert image.shape == (channels, 9, 13), "turned by EXIF, or a second frame"
    scale = 255 / 65535 if mode.startswith("16") else 1  # which BVLC's program leaves as they are
    expected = prepare((image * np.float32(scale)) if scale != 1 else image, mean, (6, 7))
    found = filled((channels, 6, 7), Look(mean=mean), MODES[mode])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_upright(channels: int) -> None:
    """A quarter turn to the right makes the left column the upper row."""
    taker = ImageInput((channels, 13, 9), Look())
    blob = np.zeros((channels, 13, 9), np.float32)
    assert taker.fill(MODES["turned jpeg"], blob, "x", upright=True) == (13, 9)
    plain = ImageInput((channels, 9, 13), Look()).pixels(MODES["turned jpeg"], "x")
    np.testing.assert_array_equal(blob, np.rot90(plain, -1).transpose(2, 0, 1))
    assert taker.fill(PNG, blob, "x", upright=True) == (9, 13)


@pytest.mark.parametrize("mode", MODES)
def test_any_mode_as_the_classifier_reads_it(mode: str, tmp_path: Path) -> None:
    """pycaffe's Classifier resizes in another way; without resizing the numbers are the same."""
    file = tmp_path / "image"
    file.write_bytes(MODES[mode])
    made = image_preparation((3, 9, 13), mean=MEAN, raw_scale=255, channel_swap=(2, 1, 0))
    expected = made.prepare(load_image(file))
    found = filled((3, 9, 13), Look(mean=MEAN), MODES[mode])
    np.testing.assert_allclose(found, expected, atol=2e-5)
