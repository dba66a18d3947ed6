from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moka.data.transform import Draw, Transform, stack
from moka.errors import DataError, NetError, SchemaError
from moka.schema import blobproto, caffe_pb2, parse_text, write_binary
from moka.types import Array

IMAGES = np.random.default_rng(1).integers(0, 256, (3, 2, 7, 6), np.uint8)
MEAN = np.random.default_rng(2).uniform(0, 255, (2, 7, 6)).astype(np.float32)


def transform(text: str, *, training: bool = False) -> Transform:
    return Transform(parse_text(text, caffe_pb2.TransformationParameter), training=training)


def draws(top: list[int], left: list[int], mirror: list[bool]) -> Draw:
    return Draw(np.array(top), np.array(left), np.array(mirror))


def caffe_transform(
    images: Array, draw: Draw, *, crop: int = 0, mean: Array | float = 0.0, scale: float = 1.0
) -> Array:
    """Caffe's DataTransformer, pixel by pixel; `mean` fits the whole image."""
    n, c, h, w = images.shape
    height, width = (crop, crop) if crop else (h, w)
    means = np.broadcast_to(np.asarray(mean, np.float64), (c, h, w))
    out = np.zeros((n, c, height, width))
    for i, k, y, x in np.ndindex(out.shape):
        source = (k, draw.top[i] + y, draw.left[i] + x)
        target = width - 1 - x if draw.mirror[i] else x
        out[i, k, y, target] = (float(images[(i, *source)]) - means[source]) * scale
    return out


STILL = draws([0, 0, 0], [0, 0, 0], [False, False, False])
MIRRORED = draws([0, 0, 0], [0, 0, 0], [True, False, True])
CROPPED = draws([0, 2, 3], [1, 0, 2], [False, True, True])


@pytest.mark.parametrize(
    ("text", "draw", "options"),
    [
        ("", STILL, {}),
        ("scale: 0.5", STILL, {"scale": 0.5}),
        ("mean_value: 100", STILL, {"mean": 100.0}),
        ("mean_value: 100 mean_value: 20", STILL, {"mean": np.array([100.0, 20.0])[:, None, None]}),
        ('mean_file: "mean"', STILL, {"mean": MEAN}),
        ("mirror: true", MIRRORED, {}),
        ("crop_size: 4", CROPPED, {"crop": 4}),
        ("crop_size: 4 mean_value: 9 scale: 2", CROPPED, {"crop": 4, "mean": 9.0, "scale": 2.0}),
        (
            'crop_size: 4 mirror: true mean_file: "mean" scale: 0.25',
            CROPPED,
            {"crop": 4, "mean": MEAN, "scale": 0.25},
        ),
        (
            'crop_size: 4 mean_file: "mean"',
            draws([1, 1, 1], [2, 2, 2], [False, False, True]),
            {"crop": 4, "mean": MEAN},
        ),
    ],
)
@pytest.mark.parametrize("as_list", [False, True])
def test_apply(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    draw: Draw,
    options: dict[str, Any],
    as_list: bool,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_binary("mean", blobproto.from_array(MEAN[None]))
    before = IMAGES.copy()
    got = transform(text, training=True).apply(list(IMAGES) if as_list else IMAGES, draw)
    assert got.dtype == np.float32
    # One subtraction and one product in float32.
    np.testing.assert_allclose(got, caffe_transform(IMAGES, draw, **options), rtol=1e-6, atol=1e-5)
    np.testing.assert_array_equal(IMAGES, before)
    made = transform(text, training=True)
    pixels = torch.from_numpy(made.pixels(IMAGES, draw).copy())
    np.testing.assert_array_equal(made.normalize_tensor(pixels, draw), got)


@pytest.mark.parametrize("shape", [(40, 3, 12, 11), (3, 3, 200, 210)])
def test_apply_to_many_images_and_to_large_ones(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """More of them than the arithmetic takes at a time."""
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, shape, np.uint8)
    mean = rng.uniform(0, 255, shape[1:]).astype(np.float32)
    write_binary(tmp_path / "mean", blobproto.from_array(mean[None]))
    made = transform(f'mean_file: "{tmp_path}/mean" crop_size: 9 mirror: true', training=True)
    draw = made.draw([shape[1:]] * len(images), rng)
    wanted = caffe_transform(images, draw, crop=9, mean=mean)
    np.testing.assert_allclose(made.apply(images, draw), wanted, rtol=1e-6, atol=1e-5)
    uncropped = transform(f'mean_file: "{tmp_path}/mean" mirror: true', training=True)
    draw = uncropped.draw([shape[1:]] * len(images), rng)
    np.testing.assert_array_equal(
        uncropped.apply(images, draw)[-1],
        (images[-1] - mean)[:, :, :: -1 if draw.mirror[-1] else 1],
    )


def test_images_stored_pixel_by_pixel_as_decoders_leave_them() -> None:
    stored = [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in np.repeat(IMAGES, 2, 1)]
    images = [np.ascontiguousarray(s[..., :3]).transpose(2, 0, 1) for s in stored]
    made = transform("crop_size: 4 mirror: true", training=True)
    got = made.apply(images, CROPPED)
    wanted = made.apply([np.ascontiguousarray(image) for image in images], CROPPED)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(got, caffe_transform(np.stack(images), CROPPED, crop=4))


def test_bytes_and_floats_in_one_batch() -> None:
    images = [IMAGES[0], IMAGES[1] + np.float32(0.25), IMAGES[2]]
    np.testing.assert_array_equal(transform("").apply(images, STILL), np.stack(images))


def test_a_test_crops_the_center_rounding_down() -> None:
    draw = transform("crop_size: 4").draw([(2, 7, 6), (2, 4, 9)], np.random.default_rng(0))
    assert (draw.top.tolist(), draw.left.tolist()) == ([1, 0], [1, 2])
    assert not draw.mirror.any()


def test_training_crops_everywhere_in_the_image() -> None:
    made = transform("crop_size: 4", training=True)
    draw = made.draw([(2, 7, 6)] * 500, np.random.default_rng(0))
    assert set(draw.top.tolist()) == {0, 1, 2, 3}
    assert set(draw.left.tolist()) == {0, 1, 2}


@pytest.mark.parametrize("training", [True, False])
def test_mirrors_are_about_half(training: bool) -> None:
    draw = transform("mirror: true", training=training).draw(
        [(1, 2, 2)] * 1000, np.random.default_rng(0)
    )
    assert 430 < draw.mirror.sum() < 570  # five standard deviations are 79


def test_draws_follow_their_generator() -> None:
    made = transform("crop_size: 2 mirror: true", training=True)

    def drawn(seed: int) -> list[list[int]]:
        drawn = made.draw([(1, 9, 9)] * 20, np.random.default_rng(seed))
        return [a.tolist() for a in drawn[:3]]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("text", "training", "wanted"),
    [
        ("", True, False),
        ("crop_size: 2", True, True),
        ("crop_size: 2", False, False),
        ("mirror: true", True, True),
        ("mirror: true", False, True),
    ],
)
def test_is_random(text: str, training: bool, wanted: bool) -> None:
    assert transform(text, training=training).is_random is wanted


def test_out_shape() -> None:
    assert transform("").out_shape((3, 7, 6)) == (3, 7, 6)
    assert transform("crop_size: 6").out_shape((3, 7, 6)) == (3, 6, 6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("crop_size: 7", r"crop_size 7 is larger than the image \(7 x 6\)\. Lower crop_size"),
        ("mean_value: 1 mean_value: 2 mean_value: 3", "3 values for 2 channels"),
        (
            'mean_file: "mean"',
            r"mean is for images of \(2, 7, 6\), this one is \(2, 7, 5\).*mean_value",
        ),
    ],
)
def test_images_that_do_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_binary("mean", blobproto.from_array(MEAN[None]))
    with pytest.raises(DataError, match=says):
        transform(text).out_shape((2, 7, 5) if "mean_file" in text else (2, 7, 6))


def test_images_of_different_sizes() -> None:
    images = [np.zeros((1, 4, 4), np.uint8), np.ones((1, 5, 6), np.uint8)]
    still = draws([0, 1], [0, 2], [False, False])
    with pytest.raises(DataError, match=r"\(1, 4, 4\) and \(1, 5, 6\).*crop_size"):
        transform("").apply(images, still)
    assert transform("crop_size: 4").apply(images, still).shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ('mean_file: "mean" mean_value: 1', NetError, "mean_file and mean_value at the same time"),
        ("force_color: true force_gray: true", NetError, "'force_color' and 'force_gray'"),
        ('mean_file: "gone"', SchemaError, "File not found: gone"),
        ('mean_file: "junk"', SchemaError, "junk: .*BlobProto"),
        ('mean_file: "two"', DataError, r"two: .*one image .*\(2, 2, 7, 6\)"),
        ('mean_file: "flat"', DataError, r"flat: .*one image .*\(2, 7, 6\)"),
    ],
)
def test_parameters_that_are_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    error: type[Exception],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("junk").write_bytes(b"\xff\xff")
    write_binary("two", blobproto.from_array(np.stack([MEAN, MEAN])))
    write_binary("flat", blobproto.from_array(MEAN))
    with pytest.raises(error, match=says):
        transform(text)


def test_a_mean_file_in_the_older_form(tmp_path: Path) -> None:
    proto = caffe_pb2.BlobProto(num=1, channels=2, height=7, width=6, data=MEAN.ravel().tolist())
    write_binary(tmp_path / "mean", proto)
    got = transform(f'mean_file: "{tmp_path}/mean"').apply(IMAGES, STILL)
    np.testing.assert_array_equal(got, IMAGES - MEAN)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("layout", ["one array", "by channel", "by pixel", "mixed"])
def test_batches_are_channels_last_whatever_the_images_are(
    channels: int, dtype: type, layout: str
) -> None:
    images: Array = np.random.default_rng(3).integers(0, 256, (6, channels, 4, 5)).astype(dtype)
    by_pixel = [np.ascontiguousarray(i.transpose(1, 2, 0)).transpose(2, 0, 1) for i in images]
    layouts: dict[str, list[Array] | Array] = {
        "one array": images,
        "by channel": list(images),
        "by pixel": by_pixel,
        "mixed": [images[0], *by_pixel[1:]],
    }
    mirror = np.array([True, False, False, True, False, True])
    got = stack(layouts[layout], mirror)
    wanted = np.where(mirror[:, None, None, None], images[..., ::-1], images)
    np.testing.assert_array_equal(got, wanted)
    assert got.dtype == dtype
    assert got.transpose(0, 2, 3, 1).flags.c_contiguous


def test_numbers_of_two_kinds_in_one_batch() -> None:
    images: list[Array] = [np.full((3, 2, 2), 200, np.uint8), np.full((3, 2, 2), 0.5, np.float32)]
    got = stack(images, np.zeros(2, np.bool_))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[:, 0, 0, 0], [200, 0.5])
