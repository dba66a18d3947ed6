"""ImageGtData and DetectionData: options. The batches themselves are tested in tests/data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

import moka
from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer

FIELDS = "field_h: 20 field_w: 20 field_h: 40 field_w: 40"
BOX = (8, 12, 27, 31)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four images of two shapes with a bright square of 20 pixels."""
    monkeypatch.chdir(tmp_path)
    cascade, mscnn = [], []
    for k, (height, width) in enumerate([(48, 64), (64, 48), (48, 64), (64, 48)]):
        pixels = np.full((height, width, 3), 30 + k, np.uint8)
        x1, y1, x2, y2 = BOX
        pixels[y1 : y2 + 1, x1 : x2 + 1] = 250
        cv2.imwrite(f"{k}.png", pixels)
        corners = " ".join(map(str, BOX))
        cascade.append(f"# {k} {k}.png 3 {height} {width} 1 1 0 1 {corners} 0")
        mscnn.append(f"# {k} {k}.png 3 {height} {width} 1 1 0 {corners} 0")
    Path("cascade.txt").write_text("\n".join(cascade))
    Path("mscnn.txt").write_text("\n".join(mscnn))


def image_gt(make_layer: LayerMaker, fields: str, more: str = "", tops: int = 4) -> Layer:
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    return make_layer(
        f'type: "ImageGtData" {names} image_gt_data_param {{ source: "mscnn.txt" {FIELDS}'
        f" downsample_rate: 8 downsample_rate: 16 {fields} }} {more}",
        training=True,
    )


def detection(make_layer: LayerMaker, fields: str, more: str = "", tops: int = 4) -> Layer:
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    return make_layer(
        f'type: "DetectionData" {names} detection_data_param {{ source: "cascade.txt" {FIELDS}'
        f" stride: 8 stride: 16 {fields} }} {more}",
        training=True,
    )


def test_mscnns_tops(make_layer: LayerMaker) -> None:
    fields = "batch_size: 2 resize_width: 64 resize_height: 48 output_gt_boxes: true scale: 0.5"
    layer = image_gt(make_layer, fields, "transform_param { mean_value: 10 }")
    shapes = [(2, 3, 48, 64), (2, 6, 6, 8), (2, 6, 3, 4), (1, 7, 1, 1)]
    assert layer.first_top_shapes == shapes
    data, fine, _, boxes = layer()
    assert data[0, 0, 0, 0] == 10  # (30 - 10) / 2
    assert boxes[0].flatten().tolist() == [0, *BOX, 1, 0]
    y, x = (fine[0, 0] == 1).nonzero()[0].tolist()
    assert fine[0, 1:5, y, x].tolist() == [17.5, 21.5, 19, 19]
    assert 0.5 < fine[0, 5, y, x] <= 1


def test_mscnn_scales_one_time_in_two(make_layer: LayerMaker) -> None:
    scales = "do_multiple_scale: true min_scale: 10 max_scale: 40"
    size = "resize_width: 64 resize_height: 48"
    layer = image_gt(make_layer, f"batch_size: 60 {size} {scales} output_gt_boxes: true")
    boxes = layer()[3].flatten(1)
    sides = np.sqrt(((boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])).numpy())
    as_they_are = np.isclose(sides, 19, atol=0.5)  # 64 x 48 becomes 48 x 64: of the same area
    assert 20 < as_they_are.sum() < 50
    assert sides.min() < 12
    assert sides.max() > 34


def test_the_canvas_follows_the_first_image(make_layer: LayerMaker) -> None:
    fields = "batch_size: 1 short_size: 64 long_size: 96"
    layer = detection(make_layer, fields, tops=3)
    assert [tuple(layer()[0].shape[2:]) for _ in range(2)] == [(64, 96), (96, 64)]
    crop = detection(make_layer, f"{fields} crop_short_size: 40 crop_long_size: 50", tops=3)
    assert [tuple(crop()[0].shape[2:]) for _ in range(2)] == [(40, 50), (50, 40)]
    fixed = detection(make_layer, f"{fields} crop_width: 56 crop_height: 32", tops=3)
    assert [tuple(fixed()[0].shape[2:]) for _ in range(2)] == [(32, 56)] * 2
    double = detection(make_layer, "batch_size: 1 resize_ratio: 2", tops=3)
    assert tuple(double()[0].shape[2:]) == (96, 128)


def test_the_ratio_of_a_batch(make_layer: LayerMaker) -> None:
    fields = "batch_size: 1 short_size: 64 long_size: 96 template_ratio: 1 template_ratio: 2"
    layer = detection(make_layer, fields, tops=3)
    assert {max(layer()[0].shape[2:]) for _ in range(20)} == {96, 192}


def test_cascades_tops(make_layer: LayerMaker) -> None:
    fields = "batch_size: 2 resize_width: 64 resize_height: 48 output_gt_boxes: true"
    data, fine, _, boxes = detection(make_layer, fields)()
    assert data.shape == (2, 3, 48, 64)
    assert boxes[0].flatten().tolist() == [0, *BOX, 1, 0, 1]
    y, x = (fine[0, 0] == 1).nonzero()[0].tolist()
    assert fine[0, 1:5, y, x].tolist() == [17.5, 21.5, 20, 20]


@pytest.mark.parametrize(
    ("scales", "low", "high"),
    [
        ("low_scale_ratio: 0.5 high_scale_ratio: 2", 10, 40),
        ("min_scale: 30 max_scale: 36", 30, 36),
    ],
)
def test_cascade_scales(make_layer: LayerMaker, scales: str, low: float, high: float) -> None:
    fields = f"batch_size: 40 {scales} multiscale_prob: 1 crop_width: 64 crop_height: 64"
    boxes = detection(make_layer, f"{fields} output_gt_boxes: true")()[3].flatten(1)
    size = (boxes[:, 3:5] - boxes[:, 1:3]).numpy() + 1
    sides = np.sqrt(size.prod(1))
    assert low - 2.5 < sides.min()
    assert sides.max() < high + 2.5
    assert sides.std() > 0.5


@pytest.mark.parametrize("kind", ["random", "random_aspect", "random_mix_aspect"])
def test_orders(make_layer: LayerMaker, kind: str) -> None:
    """Of two high and two wide images."""
    torch.manual_seed(2)
    layer = detection(make_layer, f'batch_size: 1 shuffle: "{kind}" mix_group_size: 1', tops=3)
    epochs = [
        [(int(data[0, 0, 0, 0]) - 30, data.shape[2] > data.shape[3])
         for data in (layer()[0] for _ in range(4))]
        for _ in range(8)
    ]  # fmt: skip
    assert all({k for k, _ in epoch} == {0, 1, 2, 3} for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 2
    shapes = [[tall for _, tall in epoch] for epoch in epochs]
    if kind == "random_aspect":
        assert all(s in ([True, True, False, False], [False, False, True, True]) for s in shapes)
    if kind == "random_mix_aspect":
        assert all(s in ([True, False] * 2, [False, True] * 2) for s in shapes)


def test_it_goes_on_from_a_state(make_layer: LayerMaker) -> None:
    fields = (
        'batch_size: 2 shuffle: "random_aspect" crop_width: 50 crop_height: 50'
        " low_scale_ratio: 0.5 high_scale_ratio: 2 distort_param { hue_prob: 1 hue_delta: 9 }"
    )
    first, second = (
        detection(make_layer, fields, "transform_param { mirror: true }", 3) for _ in range(2)
    )
    for _ in range(3):
        first()
    second.load_state(first.state())  # type: ignore[operator]
    for _ in range(3):
        for a, b in zip(first(), second(), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("batch_size: 1 field_h: 3", "2 strides, 3 field_h, 2 field_w"),
        ("batch_size: 1 short_size: 3", "give both short_size and long_size"),
        ("batch_size: 1 coord_num: 5", "coord_num is 4, got 5"),
        (
            "batch_size: 1 resize_ratio: 2 short_size: 3 long_size: 4",
            "give either resize_ratio or short_size",
        ),
        ('batch_size: 1 shuffle: "never"', 'one of random, .*, got "never"'),
        ("", "batch_size is missing"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        detection(make_layer, fields, tops=3)


def test_a_net_is_checked_without_its_list() -> None:
    Path("n.prototxt").write_text("""
    layer { name: "d" type: "DetectionData" top: "x" top: "l" top: "boxes"
      detection_data_param { source: "gone.txt" batch_size: 3 stride: 8 field_h: 16 field_w: 16
        resize_width: 80 resize_height: 64 output_gt_boxes: true } }
    layer { name: "c" type: "Convolution" bottom: "x" top: "c"
            convolution_param { num_output: 6 kernel_size: 3 pad: 1 stride: 8 } }
    layer { name: "loss" type: "DetectionLoss" bottom: "c" bottom: "l" top: "loss"
            detection_loss_param { cls_num: 2 field_w: 16 field_h: 16 downsample_rate: 8 } }
    layer { name: "s" type: "Silence" bottom: "boxes" }
    """)
    (found,) = moka.check("n.prototxt")
    assert found.loads, found.obstacle
    assert dict(found.inputs) == {"x": (3, 3, 64, 80), "l": (3, 6, 8, 10), "boxes": (1, 8, 1, 1)}
