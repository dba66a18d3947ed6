"""Batches of windows: which are drawn, and their crops."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from moka.data.place import CursorState
from moka.data.transform import Transform
from moka.data.window_batches import WindowBatches
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

Windows = Sequence[tuple[float, ...]]

BatchMaker = Callable[..., WindowBatches]

HEIGHT, WIDTH = 12, 16

IMAGES = np.random.default_rng(1).integers(1, 256, (2, HEIGHT, WIDTH, 3), np.uint8)

WINDOWS: Windows = [  # of each image: class, overlap, corners; 4 x 4 pixels
    (3, 0.9, 0, 0, 3, 3),
    (5, 0.5, 12, 8, 15, 11),
    (6, 0.4, 6, 4, 9, 7),
    (0, 0.1, 12, 0, 15, 3),
    (0, 0.0, 0, 8, 3, 11),
]

CROP = 7  # with one pixel of context, 4 pixels grow to 7 (-1..5 about 0..3): no resizing

OPTIONS = {
    "batch_size": 4,
    "fg_fraction": 0.5,
    "fg_threshold": 0.5,
    "bg_threshold": 0.5,
    "context_pad": 1,
    "square": False,
    "scale": 1.0,
    "cache_images": False,
    "seed": 3,
}


@pytest.fixture
def make_batches(tmp_path: Path) -> BatchMaker:
    """make_batches("mirror: true", WINDOWS, batch_size=2): windows of two images."""
    for name, image in zip("ab", IMAGES, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)

    def make(text: str = "", windows: Windows = WINDOWS, **options: Any) -> WindowBatches:
        lines = [" ".join(f"{v:g}" for v in window) for window in windows]
        blocks = [
            f"# {i} {name}.png 3 {HEIGHT} {WIDTH} {len(lines)}\n" + "\n".join(lines)
            for i, name in enumerate("ab")
        ]
        (tmp_path / "w.txt").write_text("\n".join(blocks))
        if "crop_size" not in text:
            text += f" crop_size: {CROP}"
        return WindowBatches(
            tmp_path / "w.txt",
            Transform(parse_text(text, caffe_pb2.TransformationParameter), training=True),
            root_folder=f"{tmp_path}/",
            **OPTIONS | options,
        )

    return make


def slow_crop(number: int, mirror: bool, mean: Array, scale: float) -> Array:
    """Window `number` of the file with one pixel of context, pixel by pixel."""
    image, window = IMAGES[number // len(WINDOWS)], WINDOWS[number % len(WINDOWS)]
    crop = np.zeros((3, CROP, CROP))
    for c, h, w in np.ndindex(*crop.shape):
        y, x = int(window[3]) - 1 + h, int(window[2]) - 1 + w
        if 0 <= y < HEIGHT and 0 <= x < WIDTH:
            to = CROP - 1 - w if mirror else w
            crop[c, h, to] = (image[y, x, c] - mean[c, h, to]) * scale
    return crop


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("number", range(2 * len(WINDOWS)))
def test_a_crop_pixel_by_pixel(
    make_batches: BatchMaker, tmp_path: Path, number: int, mirror: bool
) -> None:
    mean = np.random.default_rng(2).uniform(0, 9, (1, 3, CROP + 3, CROP + 3)).astype(np.float32)
    blob = caffe_pb2.BlobProto(num=1, channels=3, height=CROP + 3, width=CROP + 3)
    blob.data.extend(mean.ravel().tolist())
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    batches = make_batches(f'mean_file: "{tmp_path}/mean.binaryproto" scale: 0.5', scale=0.25)
    wanted = slow_crop(number, mirror, mean[0, :, 1 : CROP + 1, 1 : CROP + 1], 0.125)
    np.testing.assert_allclose(batches.crop(number, mirror), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("values", [[7.0], [1.0, 20.0, 3.0]])
def test_mean_values_are_not_taken_from_what_is_missing(
    make_batches: BatchMaker, values: list[float]
) -> None:
    batches = make_batches(" ".join(f"mean_value: {v}" for v in values))
    mean = np.broadcast_to(np.reshape(values, (-1, 1, 1)), (3, CROP, CROP))
    np.testing.assert_array_equal(batches.crop(0, False), slow_crop(0, False, mean, 1))


def test_warp_without_context(make_batches: BatchMaker) -> None:
    batches = make_batches("crop_size: 4", context_pad=0)
    wanted = IMAGES[0, 8:12, 12:16].transpose(2, 0, 1)
    np.testing.assert_array_equal(batches.crop(1, False), wanted)
    np.testing.assert_array_equal(batches.crop(1, True), wanted[:, :, ::-1])


def test_an_image_too_thin_to_be_seen(make_batches: BatchMaker, tmp_path: Path) -> None:
    windows = [(1.0, 1.0, 1.0, 0.0, 1.0, 39.0)]
    batches = make_batches(
        "crop_size: 11 mean_value: 9", windows, context_pad=5, square=True, fg_fraction=1.0
    )
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 3, 3), 200, np.uint8))
    np.testing.assert_array_equal(batches.crop(0, False), np.zeros((3, 11, 11)))


def known_crops(batches: WindowBatches) -> dict[bytes, tuple[int, bool]]:
    """Window and mirror flag by the crop they make."""
    pairs = itertools.product(range(2 * len(WINDOWS)), (False, True))
    return {batches.crop(number, mirror).tobytes(): (number, mirror) for number, mirror in pairs}


@pytest.mark.parametrize("mirror", [False, True])
def test_background_first_then_foreground(make_batches: BatchMaker, mirror: bool) -> None:
    batches = make_batches("mirror: true" if mirror else "", batch_size=5, fg_fraction=0.4)
    known = known_crops(batches)
    seen = set()
    for (data, labels, *_), _ in islice(batches.stream(batches.start), 60):
        assert data.shape == (5, 3, CROP, CROP)
        assert data.dtype == labels.dtype == np.float32
        drawn = [known[crop.tobytes()] for crop in data]
        of_image = [number % len(WINDOWS) for number, _ in drawn]
        assert set(of_image[:3]) <= {2, 3, 4}
        assert set(of_image[3:]) <= {0, 1}
        assert labels.tolist() == [0, 0, 0, *(WINDOWS[k][0] for k in of_image[3:])]
        seen.update(drawn)
    flags = (False, True) if mirror else (False,)
    assert seen == set(itertools.product(range(2 * len(WINDOWS)), flags))


@pytest.mark.parametrize(
    ("fg_threshold", "bg_threshold", "fg", "bg"),
    [(0.5, 0.5, [0, 1], [2, 3, 4]), (0.9, 0.4, [0], [3, 4]), (0.1, 0.5, [0, 1, 2, 3], [4])],
)
def test_thresholds(
    make_batches: BatchMaker, fg_threshold: float, bg_threshold: float, fg: list[int], bg: list[int]
) -> None:
    windows = [(w[0] or 1, *w[1:]) for w in WINDOWS]
    batches = make_batches("", windows, fg_threshold=fg_threshold, bg_threshold=bg_threshold)
    assert batches.foreground.tolist() == [*fg, *(i + 5 for i in fg)]
    assert batches.background.tolist() == [*bg, *(i + 5 for i in bg)]
    counts = {0: 2 * len(bg)}
    for i in fg:
        counts[int(windows[i][0])] = counts.get(int(windows[i][0]), 0) + 2
    assert batches.class_counts() == counts


@pytest.mark.parametrize(
    ("batch_size", "fg_fraction", "wanted"),
    [(4, 0.25, 1), (7, 0.5, 3), (5, 0.0, 0), (5, 1.0, 5), (100, 0.29, 29)],
)
def test_how_many_are_foreground(
    make_batches: BatchMaker, batch_size: int, fg_fraction: float, wanted: int
) -> None:
    """In single precision 100 times 0.29 is 29; in double it would be a bit less."""
    batches = make_batches(batch_size=batch_size, fg_fraction=fg_fraction)
    labels = next(batches.stream(batches.start))[0].labels
    assert np.count_nonzero(labels) == wanted


def test_a_stream_goes_on_exactly_where_it_was(make_batches: BatchMaker) -> None:
    straight = list(islice((b := make_batches("mirror: true")).stream(b.start), 8))
    state = straight[2][1]
    assert state == CursorState(12, 3)
    resumed = islice(make_batches("mirror: true", seed=9).stream(state), 5)
    for (wanted, wanted_state), (got, got_state) in zip(straight[3:], resumed, strict=True):
        np.testing.assert_array_equal(wanted[0], got[0])
        np.testing.assert_array_equal(wanted[1], got[1])
        assert wanted_state == got_state
    other = next(make_batches("mirror: true", seed=9).stream(CursorState(12)))
    assert not np.array_equal(other[0][0], straight[3][0][0])


@pytest.mark.parametrize("cache", [False, True])
def test_cached_images_are_read_once(make_batches: BatchMaker, tmp_path: Path, cache: bool) -> None:
    batches = make_batches(cache_images=cache)
    wanted = batches.crop(0, False)
    (tmp_path / "a.png").unlink()
    if cache:
        np.testing.assert_array_equal(batches.crop(0, False), wanted)
    else:
        with pytest.raises(
            DataError, match=r"txt: the block of image 0: Could not .*/a\.png: No such"
        ):
            batches.crop(0, False)


def test_a_window_beyond_its_image_is_named(make_batches: BatchMaker) -> None:
    batches = make_batches("", [(1.0, 1.0, 10.0, 10.0, 16.0, 11.0)], context_pad=0, fg_fraction=1)
    with pytest.raises(DataError, match=r"block of image 1: .*/b\.png: window 10 10 16 11 is not"):
        batches.crop(1, False)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("crop_size: 0", {}, "transform_param has no crop_size"),
        ("crop_size: 6", {"context_pad": 3}, "context_pad 3 leaves no room .* crop_size 6"),
        ("mean_value: 1 mean_value: 2", {}, "2 values for 3 channels"),
        ("crop_size: 2147483647", {}, "larger than any memory"),
    ],
)
def test_refused(make_batches: BatchMaker, text: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(NetError, match=says):
        make_batches(text, **options)


@pytest.mark.parametrize(
    ("windows", "options", "says"),
    [
        (WINDOWS[:2], {}, "a batch wants 2 background windows, and there are none"),
        (WINDOWS[2:], {}, "a batch wants 2 foreground windows, and there are none"),
        ([(0.0, 0.7, 0, 0, 3, 3), *WINDOWS], {}, "a foreground window has class 0"),
    ],
)
def test_windows_that_do_not_do(
    make_batches: BatchMaker,
    windows: Windows,
    options: dict[str, Any],
    says: str,
) -> None:
    with pytest.raises(DataError, match=rf"w\.txt: {says}"):
        make_batches("", windows, **options)


@pytest.mark.parametrize("windows", [WINDOWS[:2], WINDOWS[2:]])
def test_what_a_batch_does_not_want_may_be_missing(
    make_batches: BatchMaker, windows: Windows
) -> None:
    make_batches("", windows, fg_fraction=1.0 if windows[0][1] >= 0.5 else 0.0)


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 6, 9), (3, 9, 6)])
def test_a_mean_that_does_not_cover_the_crop(
    make_batches: BatchMaker, tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    c, h, w = shape
    blob = caffe_pb2.BlobProto(num=1, channels=c, height=h, width=w, data=[0.0] * (c * h * w))
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    with pytest.raises(DataError, match=r"mean\.binaryproto: a mean of shape .* does not cover"):
        make_batches(f'mean_file: "{tmp_path}/mean.binaryproto"')


def test_the_images_of_the_batch_before_a_state(make_batches: BatchMaker, tmp_path: Path) -> None:
    batches = make_batches("mirror: true")
    known = known_crops(batches)
    assert batches.names(batches.start) == []
    for (data, *_), state in islice(batches.stream(batches.start), 5):
        numbers = [known[crop.tobytes()][0] for crop in data]
        wanted = [f"{tmp_path}/{'ab'[number // len(WINDOWS)]}.png" for number in numbers]
        assert batches.names(state) == wanted
