from __future__ import annotations

import colorsys

import numpy as np
import pytest

from moka.data.augment import Augment, Change, recolor, reshape_image
from moka.data.resizing import ImagePart
from moka.data.transform import Transform
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, parse_text

IMAGE = np.random.default_rng(3).integers(0, 256, (3, 20, 30), np.uint8)


def param(text: str) -> caffe_pb2.TransformationParameter:
    return parse_text(text, caffe_pb2.TransformationParameter)


def augment(text: str, *, training: bool = True) -> Augment:
    return Augment(param(text), training=training)


def changes(text: str, count: int = 400, shape: tuple[int, ...] = (3, 20, 30)) -> list[Change]:
    made = augment(text)
    rng = np.random.default_rng(0)
    return [made.draw(shape, rng) for _ in range(count)]


def test_nothing_happens_unless_asked_for() -> None:
    made = augment("crop_size: 4 mirror: true")
    assert not made.is_random
    assert not made.changes_geometry
    assert not made.changes_color
    assert made.draw((3, 5, 5), np.random.default_rng(0)) == Change()


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((3, 20, 30), (10, 15)), ((1, 30, 20), (15, 10)), ((3, 10, 10), (10, 10))],
)
@pytest.mark.parametrize("training", [True, False])
def test_resize_short_side(shape: tuple[int, ...], wanted: tuple[int, int], training: bool) -> None:
    made = augment("resize_short_side: 10", training=training)
    assert made.least_shape(shape) == (shape[0], *wanted)
    change = made.draw(shape, np.random.default_rng(0))
    assert change == Change(size=wanted)
    assert not made.is_random
    image = np.zeros(shape, np.uint8)
    assert reshape_image(image, change).shape == (shape[0], *wanted)


def test_a_random_short_side() -> None:
    text = "resize_short_side: 10 resize_short_side_max: 12 crop_size: 8"
    assert {c.size for c in changes(text)} == {(10, 15), (11, 16), (12, 18)}
    assert augment(text).is_random
    still = augment(text, training=False)
    assert not still.is_random
    assert still.draw((3, 20, 30), np.random.default_rng(0)).size == (10, 15)


def test_a_random_area() -> None:
    text = "random_area_min: 0.25 random_area_max: 0.5 random_aspect_max: 1.5 crop_size: 8"
    drawn = changes(text)
    assert {c.size for c in drawn} == {(8, 8)}
    boxes = [c.box for c in drawn if c.box]
    assert len(boxes) == len(drawn)
    areas = np.array([b.height * b.width / 600 for b in boxes])
    aspects = np.array([b.width / b.height for b in boxes])
    assert 0.23 < areas.min() < 0.27 < 0.47 < areas.max() < 0.53  # sides are whole pixels
    assert 0.6 < aspects.min() < 0.75 < 1.3 < aspects.max() < 1.65
    assert abs(np.log(aspects).mean()) < 0.05
    assert all(b.top >= 0 and b.top + b.height <= 20 for b in boxes)
    assert all(b.left >= 0 and b.left + b.width <= 30 for b in boxes)
    assert {b.top + b.height for b in boxes} >= {20}
    assert {b.left for b in boxes} >= {0}


def test_an_area_that_never_fits_is_cut_from_the_middle() -> None:
    (change,) = changes("random_area_min: 1 random_aspect_max: 1.5 crop_size: 8", 1, (3, 10, 40))
    assert change.box == ImagePart(0, 12, 10, 15)


def test_in_testing_the_area_is_left_alone() -> None:
    text = "random_area_min: 0.25 crop_size: 8 random_hue: 9 random_rotation: 4 random_contrast: 1"
    made = augment(text, training=False)
    assert not made.is_random
    assert made.draw((3, 20, 30), np.random.default_rng(0)) == Change()
    assert made.least_shape((3, 20, 30)) == (3, 20, 30)


@pytest.mark.parametrize(
    ("name", "strength", "low", "high"),
    [
        ("brightness", 0.5, 0.5, 1.5),
        ("contrast", 0.25, 0.75, 1.25),
        ("saturation", 2, 0, 3),
        ("hue", 30, -30, 30),
        ("rotation", 20, -20, 20),
    ],
)
def test_ranges(name: str, strength: float, low: float, high: float) -> None:
    text = f"random_{name}: {strength}"
    field = "angle" if name == "rotation" else name
    values = np.array([getattr(c, field) for c in changes(text)])
    margin = (high - low) / 20
    assert low <= values.min() < low + margin
    assert high - margin < values.max() <= high
    others = [name for name in Change._fields if name != field]
    assert all(getattr(c, o) == getattr(Change(), o) for c in changes(text) for o in others)
    assert augment(text).is_random


def test_the_part_that_is_cut_out() -> None:
    np.testing.assert_array_equal(
        reshape_image(IMAGE, Change(box=ImagePart(2, 5, 7, 9), size=(7, 9))), IMAGE[:, 2:9, 5:14]
    )


def test_shrinking_averages() -> None:
    got = reshape_image(IMAGE.astype(np.float32), Change(size=(10, 15)))
    wanted = IMAGE.reshape(3, 10, 2, 15, 2).mean((2, 4))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_any_number_of_channels(channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (channels, 8, 8), np.uint8)
    turned = reshape_image(image, Change(angle=90))
    np.testing.assert_array_equal(turned, np.rot90(image, axes=(1, 2)))  # counter-clockwise
    assert reshape_image(image, Change(size=(4, 6))).shape == (channels, 4, 6)
    assert recolor(image, Change(contrast=2)).shape == image.shape


def test_rotation_mirrors_at_the_border() -> None:
    image = np.full((1, 9, 9), 7, np.uint8)
    np.testing.assert_array_equal(reshape_image(image, Change(angle=33)), image)


def test_brightness_rounds_and_stays_a_byte() -> None:
    image = np.array([0, 1, 3, 100, 200], np.uint8).reshape(1, 1, 5)
    assert recolor(image, Change(brightness=1.5)).ravel().tolist() == [0, 2, 4, 150, 255]
    assert recolor(image.astype(np.float32), Change(brightness=1.5)).ravel().tolist() == [
        0,
        1.5,
        4.5,
        150,
        300,
    ]


def test_contrast_keeps_the_mean() -> None:
    image = np.random.default_rng(0).uniform(0, 9, (1, 5, 6)).astype(np.float32)
    wanted = image.mean() + 3 * (image - image.mean())
    np.testing.assert_allclose(recolor(image, Change(contrast=3)), wanted, rtol=1e-4)


def test_without_saturation_an_image_is_gray() -> None:
    gray = (IMAGE * np.array([0.114, 0.587, 0.299])[:, None, None]).sum(0)
    got = recolor(IMAGE, Change(saturation=0))
    np.testing.assert_allclose(got, np.stack([gray] * 3), atol=0.51)


@pytest.mark.parametrize("degrees", [-200, -20, 40, 350])
def test_hue(degrees: float) -> None:
    image = IMAGE[:, :3, :4]
    got = recolor(image, Change(hue=degrees))
    for y, x in np.ndindex(3, 4):
        b, g, r = image[:, y, x] / 255
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        wanted = np.array(colorsys.hsv_to_rgb((h + degrees / 360) % 1, s, v))[::-1] * 255
        np.testing.assert_allclose(got[:, y, x], wanted, atol=0.6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("random_area_min: 0.5", "random_area_min needs crop_size"),
        ("random_area_min: 0.5 random_area_max: 0.4 crop_size: 3", "0.5 and 0.4"),
        ("random_area_min: -0.5 crop_size: 3", "-0.5 and 1"),
        ("random_area_max: 1.5", "0 and 1.5"),
        ("random_aspect_max: 0.5", "random_aspect_max is 1 or more, got 0.5"),
        ("resize_short_side_max: 9 crop_size: 3", "from 1 to 9, got 0"),
        ("resize_short_side: 9 resize_short_side_max: 8 crop_size: 3", "from 1 to 8, got 9"),
        ("resize_short_side: 9 resize_short_side_max: 10", "needs crop_size"),
        ("random_hue: -1", "random_hue is 0 or more, got -1"),
        ("random_rotation: -2", "random_rotation is 0 or more, got -2"),
        ("random_contrast: inf", "random_contrast is 0 or more, got inf"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(NetError, match=says):
        augment(text)


@pytest.mark.parametrize("field", ["random_saturation", "random_hue"])
def test_colors_need_three_channels(field: str) -> None:
    with pytest.raises(DataError, match="3 channels, the image has 1"):
        augment(f"{field}: 0.5").least_shape((1, 4, 4))


def test_a_transformation_augments_before_crop_mirror_and_mean() -> None:
    text = "resize_short_side: 10 crop_size: 8 mirror: true mean_value: 9 random_brightness: 0.5"
    transform = Transform(param(text), training=True)
    assert transform.out_shape((3, 20, 30)) == (3, 8, 8)
    images = [IMAGE, IMAGE[:, :15, :25]]
    draw = transform.draw([i.shape for i in images], np.random.default_rng(1))
    got = transform.apply(images, draw)
    for i, image in enumerate(images):
        resized = reshape_image(image, draw.changes[i])
        part = resized[:, draw.top[i] : draw.top[i] + 8, draw.left[i] : draw.left[i] + 8]
        pixels = recolor(part, draw.changes[i])[:, :, :: -1 if draw.mirror[i] else 1]
        np.testing.assert_array_equal(got[i], pixels.astype(np.float32) - 9)


def test_a_random_area_comes_out_in_the_size_of_the_crop() -> None:
    transform = Transform(param("random_area_min: 0.1 crop_size: 8"), training=True)
    images = [IMAGE, IMAGE[:, :5, :5]]
    assert [transform.out_shape(i.shape) for i in images] == [(3, 8, 8)] * 2
    draw = transform.draw([i.shape for i in images], np.random.default_rng(1))
    assert transform.apply(images, draw).shape == (2, 3, 8, 8)
