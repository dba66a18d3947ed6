from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from moka.errors import DataError, UsageError
from moka.predict.images import load_image, resize_image

RGB = np.random.default_rng(2).integers(0, 256, (3, 4, 3), np.uint8)
SMALL = np.array([[0.0, 9, 1, 4], [7, 2, 8, 3], [5, 6, 0, 9]])

# What scikit-image 0.26 makes of SMALL by `resize(..., mode="reflect", anti_aliasing=False)`,
# between 0 and 1 as in pycaffe: (order, values).
SCIKIT_IMAGE = [
    (
        0,
        [[0, 9, 9, 1, 4, 4], [0, 9, 9, 1, 4, 4], [7, 2, 2, 8, 3, 3], [5, 6, 6, 0, 9, 9],
         [5, 6, 6, 0, 9, 9]],
    ),
    (0, [[0, 1, 4], [5, 0, 9]]),
    (0, [[0, 0, 9, 1, 1, 4, 4], [5, 5, 6, 0, 0, 9, 9]]),
    (
        1,
        [[2.43333, 4.5, 6.73333, 3.26667, 3.1, 3.56667],
         [3.36667, 4.5, 5.8, 4.2, 3.7, 3.63333],
         [6.16667, 4.5, 3, 7, 5.5, 3.83333],
         [5.56667, 5.1, 4.2, 3.4, 4.9, 6.03333],
         [5.36667, 5.3, 4.6, 2.2, 4.7, 6.76667]],
    ),
    (1, [[2.66667, 5, 3.58333], [5.41667, 3.5, 6.58333]]),
    (
        1,
        [[2.92857, 3.71429, 6.85714, 5, 2.82143, 3.39286, 3.53571],
         [5.39286, 5.32143, 5.03571, 3.5, 2.39286, 5.53571, 6.32143]],
    ),
    (
        3,
        [[1.1387, 4.2474, 8.15726, 2.73207, 2.2786, 3.53619],
         [2.40574, 4.1982, 6.79733, 4.17067, 3.0298, 3.23559],
         [6.61574, 4.425, 2.5, 7.5, 5.575, 3.38426],
         [6.01374, 5.6238, 3.81267, 2.44733, 5.3662, 6.98293],
         [5.43915, 5.9466, 4.59978, 0.678, 5.0634, 8.0027]],
    ),
    (3, [[1.4009, 5.76465, 3.46792], [5.56496, 2.33691, 7.79279]]),
    (
        3,
        [[1.68927, 2.83545, 7.79514, 5.76465, 1.9224, 2.91446, 3.35213],
         [5.60722, 5.75352, 5.51985, 2.33691, 1.51614, 6.45546, 7.52551]],
    ),
]  # fmt: skip

# What scipy 1.17 makes of it by `ndimage.zoom`.
SCIPY = [
    (
        0,
        [[0, 9, 9, 1, 1, 4], [7, 2, 2, 8, 8, 3], [7, 2, 2, 8, 8, 3], [5, 6, 6, 0, 0, 9],
         [5, 6, 6, 0, 0, 9]],
    ),
    (
        1,
        [[0, 5.4, 7.4, 2.6, 2.2, 4], [3.5, 4.7, 5.3, 4.7, 4.1, 3.5], [7, 4, 3.2, 6.8, 6, 3],
         [6, 4.8, 4, 4, 4.8, 6], [5, 5.6, 4.8, 1.2, 3.6, 9]],
    ),
    (
        3,
        [[0, 5.5728, 8.5328, 2.4272, 1.4512, 4],
         [3.03125, 4.55405, 5.96855, 5.09645, 3.68195, 3.03125],
         [7, 3.6736, 2.6816, 7.3184, 6.3264, 3],
         [6.46875, 5.06115, 3.31865, 3.45635, 5.19885, 6.46875],
         [5, 6.3104, 4.6784, 0.0416, 3.6576, 9]],
    ),
    (3, [[0, 5.75, 4], [5, 2, 9]]),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("order", "values"), SCIKIT_IMAGE)
@pytest.mark.parametrize("channels", [1, 3])
def test_one_and_three_channels_as_scikit_image(
    order: int, values: list[list[float]], channels: int
) -> None:
    image = np.repeat(SMALL[..., None], channels, 2)
    got = resize_image(image, (len(values), len(values[0])), order)
    assert got.dtype == np.float32
    for k in range(channels):
        np.testing.assert_allclose(got[..., k], values, atol=2e-5)


@pytest.mark.parametrize(("order", "values"), SCIPY)
@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_as_scipy(order: int, values: list[list[float]], channels: int) -> None:
    image = np.repeat(SMALL[..., None], channels, 2)
    got = resize_image(image, (len(values), len(values[0])), order)
    for k in range(channels):
        np.testing.assert_allclose(got[..., k], values, atol=2e-5)


def test_a_cubic_spline_keeps_within_the_range_of_the_image() -> None:
    """A step overshoots by a few hundredths; scikit-image clips that, scipy does not."""
    step = np.repeat([[0.0] * 4 + [1.0] * 4], 8, 0)
    for channels, inside in ((1, True), (2, False)):
        got = resize_image(np.repeat(step[..., None], channels, 2), (8, 31), 3)
        assert (got.min() >= 0 and got.max() <= 1) == inside


def test_whole_numbers_stay_whole_with_other_channels() -> None:
    """As of scipy, which rounds half away from zero; but what overshoots does not wrap around."""
    row = np.repeat(np.array([[[0], [1], [2], [255]]], np.uint8), 2, 2)
    assert resize_image(row, (1, 7))[0, :, 0].tolist() == [0, 1, 1, 2, 2, 129, 255]
    step = np.repeat(np.array([[[0], [0], [255], [255]]], np.uint8), 2, 2)
    assert set(resize_image(step, (1, 13), 3)[0, [1, 2, 10, 11], 0].tolist()) == {0, 255}


def test_a_constant_image() -> None:
    assert (resize_image(np.full((4, 5, 3), 2.5), (6, 3), 3) == 2.5).all()


def test_the_last_row_is_never_black() -> None:
    """7 / 25 * 25 is more than 7, by rounding."""
    assert (resize_image(np.ones((8, 8, 2)), (26, 26)) == 1).all()


def test_what_cannot_be_resized() -> None:
    with pytest.raises(UsageError, match=r"an image is \(height, width, channels\)"):
        resize_image(np.zeros((4, 5)), (2, 2))
    with pytest.raises(UsageError, match="one of 0 to 5, got 7"):
        resize_image(np.zeros((4, 5, 3)), (2, 2), 7)


def test_load_image() -> None:
    cv2.imwrite("x.png", RGB[..., ::-1])
    image = load_image("x.png")
    assert image.dtype == np.float32
    np.testing.assert_allclose(image, RGB / 255, rtol=1e-6)
    gray = load_image(io.BytesIO(Path("x.png").read_bytes()), color=False)
    np.testing.assert_allclose(gray[..., 0], RGB @ [0.2125, 0.7154, 0.0721] / 255, rtol=1e-5)


def test_a_file_named_as_on_windows() -> None:
    Path("img").mkdir()
    cv2.imwrite("img/x.png", RGB)
    assert load_image("img\\x.png").shape == (3, 4, 3)


def test_what_is_no_image() -> None:
    with pytest.raises(FileNotFoundError, match="gone"):
        load_image("gone.png")
    Path("x.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"x\.png: the image cannot be decoded"):
        load_image("x.png")
