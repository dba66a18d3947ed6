from __future__ import annotations

import cv2
import numpy as np
import pytest

from moka.data.augment import reshape_image
from moka.data.resizing import Resized, resizing_of
from moka.data.transform import Transform
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, parse_text

IMAGE = np.random.default_rng(3).integers(0, 256, (3, 20, 30), np.uint8)


def param(text: str) -> caffe_pb2.TransformationParameter:
    return parse_text(text, caffe_pb2.TransformationParameter)


def draws(text: str, height: int = 20, width: int = 30, count: int = 400) -> list[Resized]:
    made = resizing_of(param(text), training=True)
    assert made
    rng = np.random.default_rng(0)
    found = [made.draw(height, width, rng) for _ in range(count)]
    least = made.least(height, width)
    assert all(r.size[0] >= least[0] and r.size[1] >= least[1] for r in found)
    sizes = {(r.size, r.box) for r in found}
    assert made.is_random or len(sizes) == 1
    return found


def sizes(text: str, height: int = 20, width: int = 30) -> set[tuple[int, int]]:
    return {each.size for each in draws(text, height, width)}


def test_none_is_asked_for() -> None:
    assert resizing_of(param("crop_size: 4 mirror: true"), training=True) is None


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("height: 6 width: 7", (6, 7)),
        ("height: 10 width: 10 resize_mode: FIT_SMALL_SIZE", (10, 15)),
        ("height: 10 width: 20 resize_mode: FIT_SMALL_SIZE", (13, 20)),
    ],
)
def test_ssds_resizing(text: str, wanted: tuple[int, int]) -> None:
    assert sizes(f"resize_param {{ {text} }}") == {wanted}


def test_ssds_interpolations() -> None:
    text = "resize_param { height: 6 width: 7 interp_mode: AREA interp_mode: CUBIC }"
    assert {r.interpolation for r in draws(text)} == {cv2.INTER_AREA, cv2.INTER_CUBIC}
    assert draws("resize_param { height: 6 width: 7 }")[0].interpolation == cv2.INTER_LINEAR


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("min_size: 10 max_size: 12", {(10, 15), (11, 16), (12, 18)}),
        ("min_size: 11 max_size: 11", {(11, 16)}),
        ("min_size: 29", {(29, 43), (30, 45)}),  # up to the longer side
        ("max_size: 21", {(20, 30), (21, 31)}),  # from the shorter side
    ],
)
def test_intels_short_side(text: str, wanted: set[tuple[int, int]]) -> None:
    assert sizes(f"crop_size: 8 random_resize_param {{ {text} }}") == wanted
    upright = sizes(f"crop_size: 8 random_resize_param {{ {text} }}", 30, 20)
    assert upright == {(b, a) for a, b in wanted}


def test_intels_part() -> None:
    found = draws(
        "crop_size: 8 random_aspect_ratio_param { min_area_ratio: 0.1 max_area_ratio: 0.5"
        " aspect_ratio_change: 0.5 resize_param { interp_mode: CUBIC } }",
        200,
        300,
    )
    shares, aspects = [], []
    for size, interpolation, box in found:
        assert (size, interpolation) == ((8, 8), cv2.INTER_CUBIC)
        assert box
        assert 0 <= box.top <= 200 - box.height
        assert 0 <= box.left <= 300 - box.width
        shares.append(box.height * box.width / 60000)
        aspects.append(box.width / box.height)
    assert 0.095 < min(shares) < 0.12
    assert 0.45 < max(shares) <= 0.5
    assert 0.24 < min(aspects) < 0.35
    assert 3 < max(aspects) < 4.1


def test_intels_part_that_never_fits_is_the_image() -> None:
    text = "crop_size: 8 random_aspect_ratio_param { min_area_ratio: 4 max_area_ratio: 4 }"
    assert draws(text)[0] == Resized((8, 12), cv2.INTER_LINEAR)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("img_rand_resize_lower: 10 img_rand_resize_upper: 12", {(10, 15), (11, 17), (12, 18)}),
        ("img_rand_resize_lower: 6 img_rand_resize_upper: 6", {(8, 9)}),  # not below the crop
        ("img_rand_resize_lower: 40 img_rand_resize_upper: 40", {(20, 30)}),  # nor above the image
        ("img_rand_resize_lower: 40 img_rand_resize_upper: 40 allow_upscale: true", {(40, 60)}),
        ("vertical_stretch_lower: 0.5 vertical_stretch_upper: 0.5", {(10, 30)}),
        ("horizontal_stretch_lower: 0.5 horizontal_stretch_upper: 0.5", {(20, 15)}),
        ("rand_resize_ratio_lower: 1.2 rand_resize_ratio_upper: 1.2", {(20, 24)}),
        ("rand_resize_ratio_lower: 0.9 rand_resize_ratio_upper: 1.2", {(20, 30)}),  # as NVCaffe
    ],
)
def test_nvcaffes_sizes(text: str, wanted: set[tuple[int, int]]) -> None:
    assert sizes(f"crop_size: 8 {text}") == wanted


def test_nvcaffes_stretch_is_drawn() -> None:
    text = "crop_size: 8 vertical_stretch_lower: 0.5 vertical_stretch_upper: 0.9"
    assert {each[0] for each in sizes(text)} == set(range(10, 19))
    square = sizes("crop_size: 8 rand_resize_ratio_lower: 1 rand_resize_ratio_upper: 1.1"
                   " img_rand_resize_lower: 10 img_rand_resize_upper: 10", 20, 20)  # fmt: skip
    assert square == {(10, 10), (10, 11), (11, 10)}


def test_nvcaffes_interpolation() -> None:
    text = "crop_size: 8 allow_upscale: true img_rand_resize_lower: {0} img_rand_resize_upper: {0}"
    up = "interpolation_algo_up: INTER_LINEAR interpolation_algo_down: INTER_AREA"
    assert draws(text.format(10))[0].interpolation == cv2.INTER_NEAREST
    assert draws(text.format(40))[0].interpolation == cv2.INTER_CUBIC
    assert draws(f"{text.format(10)} {up}")[0].interpolation == cv2.INTER_AREA
    assert draws(f"{text.format(40)} {up}")[0].interpolation == cv2.INTER_LINEAR


def test_yjxiongs_scales() -> None:
    found = draws("crop_size: 8 multi_scale: true scale_ratios: 1 scale_ratios: 0.5", 20, 30)
    assert {r.size for r in found} == {(8, 8)}
    boxes = [r.box for r in found if r.box]
    sides = {(box.height, box.width) for box in boxes}
    assert sides == {(20, 20), (20, 8), (8, 20), (8, 8)}  # 10 is so close to 8 that it is 8
    assert {box.left for box in boxes if box.width == 20} == set(range(11))
    same = draws("crop_size: 8 multi_scale: true scale_ratios: 1 scale_ratios: 0.6 max_distort: 0")
    assert {(r.box.height, r.box.width) for r in same if r.box} == {(20, 20), (12, 12)}
    assert {r.box.height for r in draws("crop_size: 4 multi_scale: true", 40, 40) if r.box} == {
        40, 35, 30, 26
    }  # fmt: skip


@pytest.mark.parametrize(("more", "count"), [("", 5), ("more_fix_crop: true", 13)])
def test_yjxiongs_places(more: str, count: int) -> None:
    found = draws(f"crop_size: 8 fix_crop: true {more}", 20, 30)
    places = {(r.box.top, r.box.left) for r in found if r.box}
    assert all((r.box.height, r.box.width) == (8, 8) for r in found if r.box)
    assert len(places) == count
    assert {(0, 0), (0, 20), (12, 0), (12, 20), (6, 10)} <= places
    assert all(top % 3 == 0 and left % 5 == 0 for top, left in places)


def test_in_testing_yjxiongs_crop_is_central() -> None:
    transform = Transform(param("crop_size: 8 multi_scale: true fix_crop: true"), training=False)
    assert not transform.is_random
    draw = transform.draw([IMAGE.shape], np.random.default_rng(0))
    np.testing.assert_array_equal(transform.apply([IMAGE], draw)[0], IMAGE[:, 6:14, 11:19])


def test_motion_in_a_mirror() -> None:
    transform = Transform(param("mirror: true is_flow: true mean_value: 128"), training=True)
    flow = np.random.default_rng(1).integers(0, 256, (4, 5, 6), np.uint8)
    draw = transform.draw([flow.shape] * 20, np.random.default_rng(0))
    assert set(draw.mirror.tolist()) == {True, False}
    for image, mirror in zip(transform.apply([flow] * 20, draw), draw.mirror, strict=True):
        wanted = flow.astype(np.float32)
        if mirror:
            wanted = wanted[:, :, ::-1].copy()
            wanted[::2] = 255 - wanted[::2]
        np.testing.assert_array_equal(image, wanted - 128)


def test_an_image_smaller_than_the_crop_is_refused() -> None:
    transform = Transform(param("crop_size: 25 fix_crop: true"), training=True)
    with pytest.raises(DataError, match="crop_size 25 is larger than the image"):
        transform.out_shape(IMAGE.shape)


@pytest.mark.parametrize("training", [True, False])
def test_images_are_resized_and_cut(training: bool) -> None:
    transform = Transform(
        param("crop_size: 8 img_rand_resize_lower: 10 img_rand_resize_upper: 12"),
        training=training,
    )
    assert transform.is_random
    assert transform.out_shape((3, 20, 30)) == (3, 8, 8)
    draw = transform.draw([IMAGE.shape] * 9, np.random.default_rng(0))
    got = transform.apply([IMAGE] * 9, draw)
    for k in range(9):
        change = draw.changes[k]
        assert change.size
        whole = cv2.resize(
            np.ascontiguousarray(IMAGE.transpose(1, 2, 0)), change.size[::-1],
            interpolation=cv2.INTER_NEAREST,
        ).transpose(2, 0, 1)  # fmt: skip
        np.testing.assert_array_equal(reshape_image(IMAGE, change), whole)
        top, left = draw.top[k], draw.left[k]
        np.testing.assert_array_equal(got[k], whole[:, top : top + 8, left : left + 8])
        if not training:
            assert (top, left) == ((change.size[0] - 8) // 2, (change.size[1] - 8) // 2)


def test_a_central_crop_in_training() -> None:
    transform = Transform(param("crop_size: 8 center_crop: true"), training=True)
    assert not transform.is_random
    draw = transform.draw([IMAGE.shape], np.random.default_rng(0))
    assert (draw.top[0], draw.left[0]) == (6, 11)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            "crop_size: 8 img_rand_resize_lower: 9 img_rand_resize_upper: 8",
            "img_rand_resize_upper (8) is less than img_rand_resize_lower (9)",
        ),
        ("img_rand_resize_lower: 8 img_rand_resize_upper: 9", "needs crop_size"),
        (
            "crop_size: 8 vertical_stretch_upper: inf",
            "vertical_stretch_lower and vertical_stretch_upper must be finite",
        ),
        ("random_resize_param { min_size: 8 }", "needs crop_size"),
        (
            "crop_size: 8 random_resize_param { min_size: 9 max_size: 8 }",
            "min_size (9) is larger than max_size (8)",
        ),
        (
            "crop_size: 8 random_aspect_ratio_param { min_area_ratio: 0.9 max_area_ratio: 0.5 }",
            "0 < min_area_ratio <= max_area_ratio must hold, got 0.9 and 0.5",
        ),
        (
            "crop_size: 8 random_aspect_ratio_param { aspect_ratio_change: 2 }",
            "aspect_ratio_change is above 0 and at most 1, got 2",
        ),
        ("resize_param { height: 8 }", "resize_param needs height and width, got 8 and 0"),
        (
            "resize_param { height: 8 width: 8 } resize_param { height: 8 width: 8 }",
            "one resize_param at most",
        ),
        (
            "resize_param { height: 8 width: 8 resize_mode: FIT_LARGE_SIZE_AND_PAD }",
            "FIT_LARGE_SIZE_AND_PAD } is not supported",
        ),
        ("resize_param { height: 8 width: 8 max_angle: 3 }", "max_angle } is not supported"),
        (
            "resize_param { height: 8 width: 8 } random_resize_param { }",
            "give the resizing of one fork",
        ),
        ("multi_scale: true", "needs crop_size"),
        ("crop_size: 8 multi_scale: true scale_ratios: 2", "scale_ratios are above 0 and at most"),
        (
            "resize_param { height: 8 width: 8 } resize_short_side: 9",
            "do not go with the resizing of forks",
        ),
    ],
)
def test_what_does_not_go(text: str, wrong: str) -> None:
    with pytest.raises(NetError) as e:
        Transform(param(text), training=True)
    assert wrong in str(e.value)
