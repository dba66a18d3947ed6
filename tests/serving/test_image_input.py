"""Encoded images as a net's input takes them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moka.data.decode import resize
from moka.errors import NetError, UsageError
from moka.serving.errors import BadRequestError
from moka.serving.image_input import ImageInput, Look
from moka.tools.classification import prepare
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
