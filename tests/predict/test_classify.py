from __future__ import annotations

import numpy as np
import pytest

from moka.errors import UsageError
from moka.predict.classify import classify
from moka.predict.crops import oversample
from moka.predict.images import resize_image
from moka.types import Array, Floats

IMAGES = list(np.random.default_rng(3).random((3, 6, 8, 3), np.float32))


def prepare(crop: Array) -> Floats:
    return (crop * 2).transpose(2, 0, 1)


def score(images: Floats) -> Floats:
    """The mean of each channel."""
    return images.mean((2, 3))


def test_the_middle_of_resized_images() -> None:
    got = classify(
        iter(IMAGES), prepare, score, input_shape=(3, 4, 5), image_size=(8, 9), average_crops=False
    )
    want = [2 * resize_image(image, (8, 9))[2:6, 2:7].mean((0, 1)) for image in IMAGES]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_mean_over_ten_crops() -> None:
    got = classify(IMAGES, prepare, score, input_shape=(3, 4, 5), image_size=(6, 8))
    want = [2 * oversample([image], (4, 5)).mean((0, 1, 2)) for image in IMAGES]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_images_are_resized_to_the_crop() -> None:
    got = classify(IMAGES, prepare, score, input_shape=(3, 4, 5), average_crops=False)
    want = [2 * resize_image(image, (4, 5)).mean((0, 1)) for image in IMAGES]
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_what_cannot_be_classified() -> None:
    with pytest.raises(UsageError, match="image 1 has 1 channels, the net takes 3"):
        classify([IMAGES[0], IMAGES[0][..., :1]], prepare, score, input_shape=(3, 4, 5))
    with pytest.raises(UsageError, match="there is no image"):
        classify([], prepare, score, input_shape=(3, 4, 5))
    with pytest.raises(UsageError, match="a crop of 4 x 5 is larger than the image, 3 x 9"):
        classify(IMAGES, prepare, score, input_shape=(3, 4, 5), image_size=(3, 9))
