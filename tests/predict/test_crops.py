from __future__ import annotations

import numpy as np
import pytest

from moka.errors import UsageError
from moka.predict.crops import (
    center_crop,
    check_context,
    crop_with_context,
    cut_window,
    five_parts,
    oversample,
)
from moka.predict.images import resize_image

IMAGE = np.random.default_rng(4).random((20, 16, 3), np.float32)


def test_the_middle() -> None:
    assert center_crop((7, 7), (4, 3)) == (slice(1, 5), slice(2, 5))
    with pytest.raises(UsageError, match="a crop of 2 x 5 is larger than the image, 3 x 4"):
        center_crop((3, 4), (2, 5))


def test_five_parts() -> None:
    first, _, _, last, middle = five_parts((5, 8), (3, 4))
    assert (first, last) == ((slice(3), slice(4)), (slice(-3, None), slice(-4, None)))
    assert middle == center_crop((5, 8), (3, 4))
    with pytest.raises(UsageError, match="larger than the image"):
        five_parts((5, 8), (6, 4))


def test_ten_crops() -> None:
    """Corners row by row, middle, and all five mirrored; image by image."""
    first = np.arange(12.0).reshape(3, 4, 1)
    crops = oversample([first, first + 100], (2, 3))
    assert crops.shape == (20, 2, 3, 1)
    assert crops.dtype == np.float32
    assert crops[:5, 0, 0, 0].tolist() == [0, 1, 4, 5, 0]
    np.testing.assert_array_equal(crops[5:10], crops[:5, :, ::-1])
    np.testing.assert_array_equal(crops[10:], crops[:10] + 100)


def test_windows() -> None:
    np.testing.assert_array_equal(cut_window(IMAGE, [3, 4, 9, 6]), IMAGE[3:9, 4:6])
    np.testing.assert_array_equal(cut_window(IMAGE, [-2, 4.9, 9, 99]), IMAGE[:9, 4:])
    with pytest.raises(UsageError, match=r"the window \[30, 2, 40, 5\] .* image, which is 20 x 16"):
        cut_window(IMAGE, [30, 2, 40, 5])


def test_a_window_with_its_surroundings() -> None:
    """The window, 3 x 3 about (2, 2), grows by 6 / (6 - 2): half of it is 3, so rows and columns -1
    to 5 of 7, of which 6 for the crop of 6. One pixel at the top and at the left is not there."""
    crop = crop_with_context(
        IMAGE, [0, 0, 3, 3], context_pad=1, shape=(6, 6, 3), fill=np.array([7.0, 8, 9])
    )
    want = np.ones((6, 6, 3)) * [7, 8, 9]
    want[1:, 1:] = resize_image(IMAGE[:5, :5], (5, 5))
    np.testing.assert_allclose(crop, want, rtol=1e-6)


def test_a_context_that_leaves_nothing() -> None:
    check_context(2, (6, 5))
    with pytest.raises(UsageError, match=r"context_pad 3 on each side leaves nothing .* 6 x 7"):
        check_context(3, (6, 7))
