from __future__ import annotations

import numpy as np
import pytest

from moka.errors import UsageError
from moka.predict.images import resize_image
from moka.predict.prepare import Preparation, fitted_mean, image_preparation

RGB = np.random.default_rng(2).integers(0, 256, (3, 4, 3), np.uint8)
SHAPE = (3, 3, 4)


def test_the_steps_in_order_and_back() -> None:
    how = image_preparation(
        SHAPE, mean=np.array([1.0, 2, 3]), input_scale=0.5, raw_scale=10, channel_swap=(2, 0, 1)
    )
    x = how.prepare(RGB)
    assert x.shape == (3, 3, 4)
    assert x.dtype == np.float32
    planes = RGB.astype(float).transpose(2, 0, 1)
    for channel, source in enumerate((2, 0, 1)):
        want = (planes[source] * 10 - (channel + 1)) * 0.5
        np.testing.assert_allclose(x[channel], want, rtol=1e-6)
    for batch in (x, x[None]):
        np.testing.assert_allclose(how.restore(batch), RGB, rtol=1e-5)


def test_images_stay_as_they_are() -> None:
    how = Preparation(SHAPE, (2, 0, 1), raw_scale=255)
    image = np.ones((3, 4, 3), np.float32)
    x = how.prepare(image)
    how.restore(x)
    assert (image == 1).all()
    assert (x == 255).all()


def test_images_of_another_size_are_resized() -> None:
    image = np.random.default_rng(1).random((6, 5, 3), np.float32)
    want = resize_image(image, (3, 4)).transpose(2, 0, 1)
    np.testing.assert_array_equal(Preparation(SHAPE, (2, 0, 1)).prepare(image), want)


def test_without_a_transpose_axes_of_length_one_are_left_out() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    np.testing.assert_array_equal(Preparation((1, 3, 4)).restore(x), x[0, 0])


def test_the_mean_as_an_image() -> None:
    mean = np.random.default_rng(1).random(SHAPE) * 255
    how = image_preparation(SHAPE, mean=mean, raw_scale=255, channel_swap=(1, 2, 0))
    for channel, source in enumerate((1, 2, 0)):
        np.testing.assert_allclose(how.mean_image()[..., source], mean[channel] / 255)
    values = image_preparation(SHAPE, mean=np.array([1.0, 2, 3])).mean_image()
    assert values.tolist() == [[[1, 2, 3]]]
    none = image_preparation(SHAPE).mean_image()
    assert none.shape == (3, 4, 3)
    assert not none.any()


def test_means() -> None:
    image = np.arange(36.0).reshape(SHAPE)
    assert fitted_mean(image, SHAPE) is image
    large = np.tile(image, (1, 2, 3))
    want = resize_image(large.transpose(1, 2, 0), (3, 4)).transpose(2, 0, 1)
    np.testing.assert_array_equal(fitted_mean(large, SHAPE), want)
    assert fitted_mean(np.ones((6, 8)), (1, 3, 4)).shape == (1, 3, 4)
    assert fitted_mean(np.ones(3), SHAPE).shape == (3, 1, 1)


def test_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="Mean shape invalid"):
        fitted_mean(np.zeros((1, 3, 3, 4)), SHAPE)
    for mean in (np.zeros(4), np.zeros((4, 3, 4)), np.zeros((3, 4))):
        with pytest.raises(UsageError, match="Mean channels incompatible with input"):
            fitted_mean(mean, SHAPE)
    with pytest.raises(UsageError, match="same number of dimensions as the input channels"):
        image_preparation(SHAPE, channel_swap=(1, 0))
    with pytest.raises(UsageError, match="same number of dimensions as the input"):
        image_preparation((3, 4))


def test_a_gray_image_whose_channels_are_to_be_swapped() -> None:
    take = image_preparation(SHAPE, channel_swap=(2, 1, 0))
    with pytest.raises(UsageError, match="has 1 channels, of which 3 are to be swapped"):
        take.prepare(np.zeros((3, 4, 1)))
    assert take.prepare(np.zeros((3, 4, 4))).shape == SHAPE  # as in Caffe the fourth is left out
