"""Four ways to bring an image to a size."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from moka.data.decode import resize
from moka.data.fit_size import FITS, bounded

WIDE = np.random.default_rng(0).integers(1, 256, (3, 20, 40), np.uint8)


@pytest.mark.parametrize("mode", sorted(FITS))
@pytest.mark.parametrize("size", [(20, 20), (13, 31), (40, 7), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_size_comes_out(mode: str, size: tuple[int, int], channels: int) -> None:
    out = FITS[mode](WIDE[:channels], *size)
    assert out.shape == (channels, *size)
    assert out.dtype == np.uint8


def test_squash_scales_each_side() -> None:
    assert np.array_equal(FITS["squash"](WIDE, 20, 20), resize(WIDE, 20, 20))


def test_crop_keeps_the_middle() -> None:
    assert np.array_equal(FITS["crop"](WIDE, 20, 20), WIDE[:, :, 10:30])


def test_fill_is_black_above_and_below() -> None:
    out = FITS["fill"](WIDE, 20, 20)
    assert np.array_equal(out[:, 5:15], resize(WIDE, 10, 20))
    assert not out[:, :5].any()
    assert not out[:, 15:].any()


def test_half_crop_is_half_way() -> None:
    out = FITS["half_crop"](WIDE, 20, 20)  # scaled by 0.75 to 15 x 30
    assert np.array_equal(out[:, 2:17], resize(WIDE, 15, 30)[:, :, 5:25])
    assert not out[:, :2].any()


@pytest.mark.parametrize("mode", sorted(FITS))
def test_an_image_of_the_size_stays(mode: str) -> None:
    assert np.array_equal(FITS[mode](WIDE, 20, 40), WIDE)


@pytest.mark.parametrize(
    ("least", "most", "size"),
    [
        (0, 0, (20, 40)),
        (20, 40, (20, 40)),
        (-5, -5, (20, 40)),
        (30, 0, (30, 60)),
        (0, 30, (15, 30)),
        (30, 50, (25, 50)),  # the longer side's bound wins
        (10, 39, (20, 39)),
        (50, 30, (15, 30)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_bounds(channels: int, least: int, most: int, size: tuple[int, int]) -> None:
    image = WIDE[:channels]
    out = bounded(image, least, most)
    assert out.shape == (channels, *size)
    if size == (20, 40):
        assert out is image
    tall = bounded(image.transpose(0, 2, 1), least, most)
    assert tall.shape == (channels, *size[::-1])


def test_the_factor_of_bounds_is_opencvs() -> None:
    """SSD hands the factor to OpenCV instead of the size, and pixels differ."""
    out = bounded(WIDE, 0, 39)
    factor = float(np.float32(39) / np.float32(40))
    wanted = cv2.resize(WIDE.transpose(1, 2, 0), None, fx=factor, fy=factor)
    assert np.array_equal(out, wanted.transpose(2, 0, 1))
    assert not np.array_equal(out, resize(WIDE, *out.shape[1:]))


def test_bounds_leave_a_pixel() -> None:
    assert bounded(WIDE[:, :1], 0, 4).shape == (3, 1, 4)
