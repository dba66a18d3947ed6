"""Boxes frame what they framed before: a rectangle of one color in the image is found again."""

from __future__ import annotations

import numpy as np
import pytest

from moka.data.box_augment import BoxAugment
from moka.data.box_sampler import BatchSamplers
from moka.errors import NetError
from moka.schema import caffe_pb2, parse_text
from moka.types import Array, Floats

HEIGHT, WIDTH = 80, 120
MEAN = np.array([104, 117, 123], np.float32)
LEFT, TOP, RIGHT, BOTTOM = 36, 24, 84, 64  # of the rectangle
NO_MEAN = np.empty(0, np.float32)


def image() -> Array:
    """Gray, with a white rectangle."""
    pixels = np.full((3, HEIGHT, WIDTH), 60, np.uint8)
    pixels[:, TOP:BOTTOM, LEFT:RIGHT] = 255
    return pixels


def rows() -> Floats:
    corners = [LEFT / WIDTH, TOP / HEIGHT, RIGHT / WIDTH, BOTTOM / HEIGHT]
    return np.array([[5, 0, *corners, 0]], np.float32)


def augment(text: str, *samplers: str) -> BoxAugment:
    param = parse_text(text, caffe_pb2.TransformationParameter)
    parts = [parse_text(each, caffe_pb2.BatchSampler) for each in samplers]
    return BoxAugment(param, BatchSamplers(parts) if parts else None)


def results(made: BoxAugment, times: int = 40, mean: Floats = MEAN) -> list[tuple[Array, Floats]]:
    rng = np.random.default_rng(0)
    return [made.apply(image(), rows(), made.draw_policy(rng), mean, rng) for _ in range(times)]


def framed(pixels: Array) -> list[float]:
    """The corners of what is bright, as parts of the image."""
    y, x = np.nonzero(pixels[0] > 150)
    _, height, width = pixels.shape
    return [x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height]


RESIZE = "resize_param { resize_mode: %s height: 90 width: 90 interp_mode: NEAREST }"
SAMPLER = (
    "sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }"
    " sample_constraint { min_jaccard_overlap: 0.1 } max_sample: 1"
)
EXPAND = "expand_param { max_expand_ratio: 3 }"


@pytest.mark.parametrize("mode", ["", "WARP", "FIT_SMALL_SIZE", "FIT_LARGE_SIZE_AND_PAD"])
@pytest.mark.parametrize("expand", ["", EXPAND])
@pytest.mark.parametrize("sampled", [False, True])
def test_the_box_frames_the_rectangle(mode: str, expand: str, sampled: bool) -> None:
    made = augment(f"{expand} {RESIZE % mode if mode else ''}", *([SAMPLER] if sampled else []))
    found = [(pixels, kept) for pixels, kept in results(made) if len(kept)]
    assert len(found) > 35
    # Exact without resizing; a nearest pixel and floor(width / aspect) move an edge by a pixel.
    for pixels, kept in found:
        tolerance = 1.6 / 90 if mode else 1e-5
        np.testing.assert_allclose(kept[0, 2:6], framed(pixels), atol=tolerance)
        assert kept[0, [0, 1, 6]].tolist() == [5, 0, 0]
    if expand or sampled:
        assert len({kept.tobytes() for _, kept in found}) > 30


def test_a_larger_canvas_has_the_mean_color() -> None:
    for pixels, kept in results(augment(EXPAND)):
        assert HEIGHT <= pixels.shape[1] <= 3 * HEIGHT
        assert pixels.shape[1] / HEIGHT == pytest.approx(pixels.shape[2] / WIDTH, abs=0.02)
        outside = (pixels == MEAN.astype(np.uint8).reshape(3, 1, 1)).all(0)
        assert outside.sum() == pixels[0].size - HEIGHT * WIDTH
        assert len(kept) == 1
    black, _ = results(augment(EXPAND), 1, NO_MEAN)[0]
    assert (black == 0).any()
    one, _ = results(augment(EXPAND), 1, np.array([7.6], np.float32))[0]
    assert (one == 8).any()


def test_how_often_the_canvas_grows() -> None:
    found = results(augment("expand_param { prob: 0.25 max_expand_ratio: 4 }"), 400)
    assert 70 < sum(pixels.shape[1] > HEIGHT for pixels, _ in found) < 130


@pytest.mark.parametrize(
    ("constraint", "share"), [("emit_type: CENTER", 0), ("emit_type: MIN_OVERLAP", 1)]
)
def test_a_cut_keeps_what_the_constraint_says(constraint: str, share: int) -> None:
    """Parts that hold less than a quarter of the rectangle do not hold its center."""
    made = augment(
        f"emit_constraint {{ {constraint} }}",
        "sampler { min_scale: 0.3 max_scale: 0.3 } max_sample: 1"
        " sample_constraint { min_object_coverage: 0.01 max_object_coverage: 0.2 }",
    )
    assert [len(boxes) for _, boxes in results(made, 50)] == [share] * 50


def test_colors_and_noise_leave_boxes_alone() -> None:
    text = "distort_param { contrast_prob: 1 contrast_lower: 0.5 contrast_upper: 0.9 }"
    for pixels, kept in results(augment(f"{text} noise_param {{ inverse: true }}"), 10):
        np.testing.assert_array_equal(kept, rows())
        assert pixels[0, TOP, LEFT] < pixels[0, 0, 0]  # inverted
        assert 255 - pixels[0, TOP, LEFT] < 235  # after the contrast sank


def test_one_noise_of_several_is_drawn_for_each_image() -> None:
    text = "noise_param { prob: 0.75 inverse: true } noise_param { prob: 0.25 posterize: true }"
    found = results(augment(text), 400)
    assert 260 < sum(pixels[0, TOP, LEFT] == 0 for pixels, _ in found) < 340


def test_one_resize_of_several_is_drawn_for_each_batch() -> None:
    sizes = (32, 64, 96)
    made = augment(" ".join(
        f"resize_param {{ prob: {p} height: {n} width: {n} }}"
        for n, p in zip(sizes, (0.5, 0.5, 0), strict=True)
    ))  # fmt: skip
    rng = np.random.default_rng(0)
    drawn = [policy.height for _ in range(100) if (policy := made.draw_policy(rng)) is not None]
    assert set(drawn) == {32, 64}
    assert made.is_random
    assert not augment("resize_param { prob: 0.1 height: 8 width: 8 }").is_random


@pytest.mark.parametrize(
    "text",
    [
        "distort_param { }",
        "expand_param { max_expand_ratio: 2 }",
        "noise_param { saltpepper: true saltpepper_param { value: 1 } }",
        "resize_param { height: 8 width: 8 interp_mode: AREA interp_mode: CUBIC }",
    ],
)
def test_what_is_random(text: str) -> None:
    assert augment(text).is_random
    assert not augment("noise_param { inverse: true }").is_random
    assert augment("", SAMPLER).is_random
    assert not augment("", "max_trials: 3").is_random  # the whole image, as in SSD's test nets


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("expand_param { max_expand_ratio: 0.5 }", "max_expand_ratio is 1 or more, got 0.5"),
        ("noise_param { prob: -1 } noise_param { prob: 2 }", "of several noise_param, each needs"),
        ("noise_param { } noise_param { }", "of several noise_param, each needs prob"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        augment(text)
