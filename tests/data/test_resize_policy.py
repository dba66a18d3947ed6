from __future__ import annotations

import numpy as np
import pytest

from moka.data.resize_policy import ResizePolicy
from moka.errors import NetError
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

RNG = np.random.default_rng(0)


def policy(text: str) -> ResizePolicy:
    return ResizePolicy(parse_text(text, caffe_pb2.ResizeParameter))


def image(height: int, width: int) -> Array:
    """Red grows along y, green along x; blue is 100."""
    y, x = np.mgrid[:height, :width]
    return np.stack([np.full_like(y, 100), x, y]).astype(np.uint8)


BOX = np.array([[0.25, 0.5, 0.5, 1.0]], np.float32)


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("WARP", (20, 40), (30, 30)),
        ("FIT_SMALL_SIZE", (20, 40), (30, 60)),
        ("FIT_SMALL_SIZE", (40, 20), (60, 30)),
        ("FIT_LARGE_SIZE_AND_PAD", (20, 40), (30, 30)),
        ("FIT_LARGE_SIZE_AND_PAD", (40, 20), (30, 30)),
        ("FIT_LARGE_SIZE_AND_PAD", (99, 1), (30, 30)),  # a side of a third of a pixel
        ("FIT_LARGE_SIZE_AND_PAD", (1, 99), (30, 30)),
    ],
)
def test_sizes(mode: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    resize = policy(f"resize_mode: {mode} height: 30 width: 30")
    assert resize.image(image(*before), RNG).shape == (3, *after)


def test_sizes_are_computed_in_single_precision() -> None:
    """As in SSD: 18 / (36 / 50) is less than 25 then, and 75 / 55 * 22 not less than 30."""
    padded = policy("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 30 width: 18 pad_value: 200")
    blue = padded.image(image(50, 36), RNG)[0, :, 0]
    assert (blue == 100).sum() == 24
    small = policy("resize_mode: FIT_SMALL_SIZE height: 22 width: 22")
    assert small.image(image(55, 75), RNG).shape == (3, 22, 30)


def test_boxes_stay_where_the_image_is_only_stretched() -> None:
    for mode in ("WARP", "FIT_SMALL_SIZE"):
        resize = policy(f"resize_mode: {mode} height: 30 width: 30")
        np.testing.assert_array_equal(resize.boxes(BOX, 20, 40), BOX)
        over = np.array([[-0.5, 0, 1.5, 1]], np.float32)
        assert resize.boxes(over, 20, 40).tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize(("height", "width"), [(20, 40), (40, 20), (20, 20)])
def test_boxes_follow_the_padding(height: int, width: int) -> None:
    """What the box covers before, it covers afterwards."""
    resize = policy("resize_mode: FIT_LARGE_SIZE_AND_PAD height: 80 width: 80 interp_mode: NEAREST")
    marked = np.zeros((1, height, width), np.uint8)
    x1, y1, x2, y2 = (BOX[0] * [width, height, width, height]).astype(int)
    marked[:, y1:y2, x1:x2] = 255
    y, x = np.nonzero(resize.image(marked, RNG)[0])
    found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1]) / 80
    np.testing.assert_allclose(resize.boxes(BOX, height, width)[0], found, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("pad_value: 7", [7, 7, 7]),
        ("pad_value: 1 pad_value: 2 pad_value: 3", [1, 2, 3]),
        ("", [0, 0, 0]),
        ("pad_mode: REPEAT_NEAREST", [100, 0, 0]),
        ("pad_mode: MIRRORED", [100, 0, 5]),
    ],
)
def test_padding(text: str, first: list[int]) -> None:
    resize = policy(f"resize_mode: FIT_LARGE_SIZE_AND_PAD height: 20 width: 10 {text}")
    padded = resize.image(image(10, 10), RNG)
    assert padded.shape == (3, 20, 10)
    assert padded[:, 0, 0].tolist() == first
    np.testing.assert_array_equal(padded[:, 5:15], image(10, 10))


def test_gray_images() -> None:
    assert policy("height: 4 width: 5").image(image(9, 9)[:1], RNG).shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("height: 4", "needs height and width, got 4 and 0"),
        ("height: 4 width: 4 center_object: true", "center_object } is not supported"),
        ("height: 4 width: 4 max_angle: 3", "max_angle } is not supported"),
    ],
)
def test_what_is_not_supported(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        policy(text)


def test_one_of_several_interpolations_is_drawn() -> None:
    modes = ("LINEAR", "AREA", "NEAREST", "CUBIC", "LANCZOS4")
    size = "height: 5 width: 7"
    noisy = np.random.default_rng(1).integers(0, 256, (3, 11, 13), np.uint8)
    each = {
        policy(f"{size} interp_mode: {mode}").image(noisy, RNG).tobytes(): mode for mode in modes
    }
    assert len(each) == 5
    resize = policy(size + "".join(f" interp_mode: {mode}" for mode in modes))
    assert resize.is_random
    rng = np.random.default_rng(2)
    drawn = [each[resize.image(noisy, rng).tobytes()] for _ in range(60)]
    assert set(drawn) == set(modes)


def test_the_unit_of_boxes() -> None:
    both = "height: 4 width: 4 height_scale: 30 width_scale: 20"
    assert policy(f"resize_mode: FIT_SMALL_SIZE {both}").unit == (30, 20)
    assert policy(f"resize_mode: WARP {both}").unit is None
    assert policy("resize_mode: FIT_SMALL_SIZE height: 4 width: 4 height_scale: 3").unit is None
