from __future__ import annotations

import numpy as np
import pytest

from moka.errors import UsageError
from moka.predict.resample import b_spline, positions, resample
from moka.types import Array

IMAGE = np.random.default_rng(5).random((4, 5, 2))


def mirrored(at: float, last: int) -> float:
    return -at if at < 0 else 2 * last - at if at > last else at


def linear(image: Array, size: tuple[int, int]) -> Array:
    """Pixel by pixel between four neighbors, images aligned by corners and mirrored beyond."""
    h, w, k = image.shape
    out = np.zeros((*size, k))
    for i in range(size[0]):
        for j in range(size[1]):
            y = mirrored((i + 0.5) * h / size[0] - 0.5, h - 1)
            x = mirrored((j + 0.5) * w / size[1] - 0.5, w - 1)
            top, left = int(y), int(x)
            for dy, row in ((1 - y % 1, top), (y % 1, min(top + 1, h - 1))):
                for dx, column in ((1 - x % 1, left), (x % 1, min(left + 1, w - 1))):
                    out[i, j] += dy * dx * image[row, column]
    return out


@pytest.mark.parametrize("size", [(8, 9), (3, 2), (1, 1), (4, 5), (12, 3)])
def test_linear(size: tuple[int, int]) -> None:
    np.testing.assert_allclose(resample(IMAGE, size), linear(IMAGE, size), rtol=1e-12)


@pytest.mark.parametrize("centers", [False, True])
@pytest.mark.parametrize("order", range(6))
def test_the_same_size_is_the_same_image(order: int, centers: bool) -> None:
    np.testing.assert_allclose(resample(IMAGE, (4, 5), order, centers=centers), IMAGE, rtol=1e-9)


@pytest.mark.parametrize("order", range(6))
def test_old_pixels_stay_between_the_new_ones(order: int) -> None:
    """Aligned by centers, every third pixel of an image of 10 x 13 is one of the 4 x 5."""
    large = resample(IMAGE, (10, 13), order, centers=True)
    np.testing.assert_allclose(large[::3, ::3], IMAGE, rtol=1e-9)


def test_the_nearest_pixel() -> None:
    row = np.array([[[1.0], [2.0], [3.0]]])
    assert resample(row, (1, 5), 0, centers=True).ravel().tolist() == [1, 2, 2, 3, 3]
    assert resample(row, (1, 6), 0).ravel().tolist() == [1, 1, 2, 2, 3, 3]
    assert resample(row, (1, 2), 0).ravel().tolist() == [1, 3]


def test_cubic_by_hand() -> None:
    """0 1 0, mirrored at its ends, has coefficients -1 2 -1: (2 c1 + 4 c0) / 6 = 0 at the ends, and
    (2 c0 + 4 c1) / 6 = 1 in the middle. Halfway between the knots a cubic B-spline weighs four of
    them with 1, 23, 23 and 1 of 48."""
    row = np.array([[[0.0], [1.0], [0.0]]])
    between = (1 * 2 + 23 * -1 + 23 * 2 + 1 * -1) / 48
    got = resample(row, (1, 5), 3, centers=True).ravel()
    np.testing.assert_allclose(got, [0, between, 1, between, 0], atol=1e-12)


@pytest.mark.parametrize("order", range(6))
def test_b_splines_add_to_one_and_end(order: int) -> None:
    x = np.linspace(-0.5, 0.49, 7)
    total = sum(b_spline(x - i, order) for i in range(-3, 4))
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    assert b_spline((order + 1) / 2 + 0.01, order) == pytest.approx(0, abs=1e-12)


def test_positions() -> None:
    assert positions(3, 6, centers=False).tolist() == [-0.25, 0.25, 0.75, 1.25, 1.75, 2.25]
    assert positions(3, 5, centers=True).tolist() == [0, 0.5, 1, 1.5, 2]
    assert positions(3, 1, centers=False).tolist() == [1]
    assert positions(3, 1, centers=True).tolist() == [0]
    for new in range(2, 120):  # 7 / 25 * 25 is more than 7 by rounding
        assert positions(8, new, centers=True)[-1] <= 7


def test_an_image_of_one_pixel() -> None:
    for order in range(6):
        got = resample(np.full((1, 1, 3), 7.0), (2, 3), order)
        np.testing.assert_allclose(got, np.full((2, 3, 3), 7.0))


@pytest.mark.parametrize(
    ("shape", "size", "order", "message"),
    [
        ((4, 5), (2, 2), 1, r"an image is \(height, width, channels\), got shape \(4, 5\)"),
        ((4, 0, 3), (2, 2), 1, r"got shape \(4, 0, 3\)"),
        ((4, 5, 3), (2, 0), 1, r"each at least 1, got \(2, 0\)"),
        ((4, 5, 3), (2,), 1, r"a new size is \(height, width\)"),
        ((4, 5, 3), (2, 2), 6, "one of 0 to 5, got 6"),
    ],
)
def test_what_cannot_be(
    shape: tuple[int, ...], size: tuple[int, ...], order: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        resample(np.zeros(shape), size, order)
