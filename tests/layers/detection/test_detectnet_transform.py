"""DetectNetTransformation against loops over cells, and what it does to images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.layers.conftest import LayerMaker

from moka.errors import DataError, NetError
from moka.layers.detection import detectnet_transform
from moka.layers.detection.detectnet_transform import (
    Change,
    DetectNetTransformation,
    boxes_of,
    move_boxes,
    turned_size,
    turning,
)
from moka.schema import write_binary
from moka.schema.blobproto import from_array
from moka.types import Array, Shape

STRIDE, WIDTH, HEIGHT = 4, 32, 24


def text(truth: str = "", change: str = "", more: str = "") -> str:
    return (
        'type: "DetectNetTransformation" top: "x" top: "truth"'
        f" detectnet_groundtruth_param {{ stride: {STRIDE} image_size_x: {WIDTH}"
        f" image_size_y: {HEIGHT} {truth} }} detectnet_augmentation_param {{ {change} }} {more}"
    )


NEVER = (
    "crop_prob: -1 scale_prob: -1 flip_prob: -1 rotation_prob: -1 hue_rotation_prob: -1"
    " desaturation_prob: -1"
)


def label(*boxes: tuple[float, float, float, float, int], rows: int = 6) -> Array:
    """The label of an image: (1, 1, rows, 16)."""
    out = np.zeros((1, 1, rows, 16), np.float32)
    out[0, 0, 0, :2] = len(boxes), 16
    for row, (*box, chosen) in zip(out[0, 0, 1:], boxes, strict=False):
        row[:4], row[5] = box, chosen
    return out


def run(layer: torch.nn.Module, images: Array, labels: Array) -> list[Array]:
    return [t.numpy() for t in layer(torch.from_numpy(images), torch.from_numpy(labels))]


def slow_maps(
    boxes: list[tuple[float, float, float, float, int]],
    *,
    classes: dict[int, int],
    scale: float,
    least: float | None,
    most: float | None,
    norm: bool,
    crop: bool,
) -> Array:
    out = np.zeros((9 + max(classes.values()), HEIGHT // STRIDE, WIDTH // STRIDE))
    for x, y, w, h, chosen in boxes:
        right, bottom = x + w, y + h
        if crop:
            x, y = max(x, 0), max(y, 0)
            right, bottom = min(right, WIDTH), min(bottom, HEIGHT)
            w, h = right - x, bottom - y
        if chosen not in classes or w <= 0 or h <= 0:
            continue
        covered = []
        for length in (w, h):
            part = scale * length
            if least is not None:
                part = min(length, max(part, least))
            if most is not None:
                part = min(part, most)
            covered.append(part)
        cx, cy = x + w / 2, y + h / 2
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                gx, gy = column * STRIDE, row * STRIDE
                wide = min(cx + covered[0] / 2, gx + STRIDE) - max(cx - covered[0] / 2, gx)
                high = min(cy + covered[1] / 2, gy + STRIDE) - max(cy - covered[1] / 2, gy)
                if wide <= 0 or high <= 0:
                    continue
                value = STRIDE**2 / (covered[0] * covered[1])
                out[:, row, column] = 0
                out[:8, row, column] = (
                    *(1, x - gx, y - gy, right - gx, bottom - gy),
                    *(1 / w, 1 / h, value if norm else max(value, 1)),
                )
                out[8 + classes[chosen], row, column] = 1
    return out


BOXES = [
    (3.0, 2.0, 9.0, 7.0, 1),
    (10.0, 5.0, 12.0, 16.0, 2),
    (20.0, -6.0, 30.0, 20.0, 1),
    (0.0, 0.0, 5.0, 5.0, 9),
    (-9.0, 3.0, 4.0, 4.0, 1),
]


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize(
    ("fields", "least", "most"),
    [
        ("gridbox_type: GRIDBOX_MIN min_cvg_len: 6", 6, None),
        ("max_cvg_len: 5", None, 5),
    ],
)
def test_maps_mark_the_middle_of_boxes(
    make_layer: LayerMaker,
    fields: str,
    least: float | None,
    most: float | None,
    crop: bool,
    norm: bool,
) -> None:
    truth = (
        f"{fields} scale_cvg: 0.4 obj_norm: {str(norm).lower()} crop_bboxes: {str(crop).lower()}"
        " object_class { src: 1 dst: 0 } object_class { src: 2 dst: 2 }"
    )
    shapes: list[Shape] = [(1, 3, HEIGHT, WIDTH), (1, 1, 6, 16)]
    layer = make_layer(text(truth), *shapes)
    images = np.zeros(shapes[0], np.float32)
    expected = slow_maps(
        BOXES, classes={1: 0, 2: 2}, scale=0.4, least=least, most=most, norm=norm, crop=crop
    )
    (_, maps) = run(layer, images, label(*BOXES))
    np.testing.assert_allclose(maps[0], expected, rtol=1e-5, atol=1e-5)
    assert layer.top_shapes(*shapes)[1] == maps.shape


def test_in_testing_images_are_resized_and_boxes_follow(make_layer: LayerMaker) -> None:
    layer = make_layer(
        text("object_class { src: 1 dst: 0 }", more="transform_param { mean_value: 7 }"),
        (1, 3, 2 * HEIGHT, 4 * WIDTH),
        (1, 1, 6, 16),
    )
    images = np.full((1, 3, 2 * HEIGHT, 4 * WIDTH), 10, np.float32)
    x, maps = run(layer, images, label((16, 8, 64, 16, 1)))
    np.testing.assert_allclose(x, np.full((1, 3, HEIGHT, WIDTH), 3), rtol=1e-4)
    expected = slow_maps(
        [(4, 4, 16, 8, 1)],
        classes={1: 0},
        scale=0.5,
        least=None,
        most=50,
        norm=False,
        crop=True,
    )
    np.testing.assert_allclose(maps[0], expected, rtol=1e-5)


def test_a_mean_image_takes_the_images_size(make_layer: LayerMaker, mean_file: str) -> None:
    layer = make_layer(
        text(more=f'transform_param {{ mean_file: "{mean_file}" }}'),
        (1, 3, HEIGHT, WIDTH),
        (1, 1, 6, 16),
    )
    (x, _) = run(layer, np.full((1, 3, HEIGHT, WIDTH), 10, np.float32), label())
    np.testing.assert_allclose(x[0].mean((1, 2)), [9, 8, 7], rtol=1e-4)


@pytest.fixture
def mean_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("mean") / "mean.binaryproto"
    mean = np.ones((1, 3, 5, 6), np.float32) * np.array([1, 2, 3], np.float32)[None, :, None, None]
    write_binary(path, from_array(mean))
    return str(path)


def test_in_training_nothing_happens_without_luck(make_layer: LayerMaker) -> None:
    layer = make_layer(text("", NEVER), (1, 3, HEIGHT + 4, WIDTH + 8), (1, 1, 6, 16), training=True)
    images = np.random.default_rng(0).uniform(0, 255, (1, 3, HEIGHT + 4, WIDTH + 8))
    (x, _) = run(layer, images.astype(np.float32), label())
    np.testing.assert_allclose(x, images[:, :, 2:-2, 4:-4], rtol=1e-6)


def test_a_flip_and_a_part_outside_of_the_image(make_layer: LayerMaker) -> None:
    change = NEVER.replace("flip_prob: -1", "flip_prob: 2")
    layer = make_layer(text("", change), (1, 3, 8, 16), (1, 1, 6, 16), training=True)
    images = np.random.default_rng(0).uniform(0, 255, (1, 3, 8, 16)).astype(np.float32)
    x, maps = run(layer, images, label((2, 1, 5, 4, 1)))
    expected = np.zeros((1, 3, HEIGHT, WIDTH), np.float32)
    expected[:, :, 8:16, 8:24] = images[..., ::-1]
    np.testing.assert_allclose(x, expected, rtol=1e-6)
    there = maps[0, :, maps[0, 0] > 0][0]
    moved = 16 - 2 - 5 - 1 + 8
    assert there[3] - there[1] == 5
    assert (there[1] - moved) % STRIDE == 0


def test_every_change_at_once(make_layer: LayerMaker) -> None:
    always = (
        "crop_prob: 1 shift_x: 9 shift_y: 4 scale_prob: 1 scale_min: 0.5 scale_max: 1.5"
        " flip_prob: 0.5 rotation_prob: 1 max_rotate_degree: 30 hue_rotation_prob: 1"
        " desaturation_prob: 1"
    )
    layer = make_layer(text("", always), (2, 3, 20, 30), (2, 1, 6, 16), training=True)
    images = np.random.default_rng(0).uniform(0, 255, (2, 3, 20, 30)).astype(np.float32)
    labels = np.concatenate([label((2, 1, 15, 14, 1)), label()])
    for _ in range(20):
        x, maps = run(layer, images, labels)
        assert np.isfinite(x).all()
        assert np.isfinite(maps).all()
        assert not maps[1].any()


def test_boxes_and_pixels_turn_alike() -> None:
    size, angle = (31, 21), 25.0
    change = Change(size, angle=angle)
    box = label((20, 4, 2, 6, 1))[0, 0, 1:2]
    (moved,) = move_boxes(box, size, change)
    center = np.array([21, 7, 1])
    np.testing.assert_allclose(moved[:2] + moved[2:4] / 2, turning(size, angle) @ center, rtol=1e-5)
    corners = np.array([(x, y, 1) for x in (0, 31) for y in (0, 21)]) @ turning(size, angle).T
    assert (corners >= -1e-9).all()
    assert (corners <= np.array(turned_size(size, angle)) + 1e-9).all()
    assert turned_size(size, 0) == size


def test_colors_turn(make_layer: LayerMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = make_layer(text("", NEVER), (1, 3, HEIGHT, WIDTH), (1, 1, 6, 16), training=True)
    assert isinstance(layer, DetectNetTransformation)
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    image[..., 2] = 200  # red
    green = layer._image(image, Change((WIDTH, HEIGHT), hue=120))
    np.testing.assert_allclose(green[0, 0], [0, 200, 0], atol=0.1)
    gray = layer._image(image, Change((WIDTH, HEIGHT), saturation=0))
    np.testing.assert_allclose(gray[0, 0], [200, 200, 200], atol=0.1)
    monkeypatch.setattr(detectnet_transform, "draw_seed", lambda: 1)
    first, again = (
        run(layer, np.ones((1, 3, HEIGHT, WIDTH), np.float32), label())[0] for _ in range(2)
    )
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("shapes", "more", "message"),
    [
        ([(1, 1, 8, 8), (1, 1, 6, 16)], "", "takes images"),
        ([(2, 3, 8, 8), (1, 1, 6, 16)], "", "a label for each of 2 images"),
        ([(1, 3, 8, 8), (1, 1, 6, 16)], "mean_value: 1 mean_value: 2", "one mean_value or three"),
    ],
)
def test_refuses(make_layer: LayerMaker, shapes: list[Shape], more: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text(more=f"transform_param {{ {more} }}"), *shapes).top_shapes(*shapes)


def test_refuses_a_stride_without_cells(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="leaves no cell"):
        make_layer(
            text().replace("stride: 4", "stride: 100"), (1, 3, 8, 8), (1, 1, 6, 16)
        ).top_shapes((1, 3, 8, 8), (1, 1, 6, 16))


def test_a_label_of_another_kind_is_refused() -> None:
    assert len(boxes_of(np.zeros((1, 3, 16), np.float32))) == 0
    with pytest.raises(DataError, match="starts with the number of boxes"):
        boxes_of(np.full((1, 3, 16), 2, np.float32))
    with pytest.raises(DataError, match="starts with the number of boxes"):
        boxes_of(label((1, 1, 1, 1, 1), rows=1)[0])
