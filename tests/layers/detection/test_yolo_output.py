from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

ANCHORS = [(1.0, 2.0), (3.0, 1.5)]
BIASES = "biases: 1 biases: 2 biases: 3 biases: 1.5"
V2 = f"num_classes: 3 num_box: 2 {BIASES}"
V3_ANCHORS = [(10.0, 20.0), (35.0, 15.0), (30.0, 60.0), (70.0, 50.0)]
V3 = (
    "num_classes: 3 num_box: 2 biases: [10, 20, 35, 15, 30, 60, 70, 50] mask: [2, 3, 0, 1]"
    " anchors_scale: [32, 16]"
)


def maps(*shapes: tuple[int, ...], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def slow_v2(x: Array, confidence: float, threshold: float) -> list[list[float]]:
    rows = []
    n, _, h, w = x.shape
    parts = x.reshape(n, 2, 8, h, w)
    for image in range(n):
        found: Any = []
        for row, column, a in np.ndindex(h, w, 2):
            v = parts[image, a, :, row, column]
            anchor = (ANCHORS[a][0] / w, ANCHORS[a][1] / h)
            p = slow.softmax(v[5:])
            score = slow.sigmoid(v[4]) * max(p)
            if score >= confidence:
                box = slow.box_at(v, row, column, anchor, (h, w))
                found.append((score, int(np.argmax(p)) + 1, box))
        for score, label, box in slow.suppressed(found, threshold):
            rows.append([image, label, score, *slow.corners(box)])
    return rows


def slow_v3(xs: list[Array], confidence: float, threshold: float) -> list[list[float]]:
    rows = []
    for image in range(len(xs[0])):
        found: Any = []
        for x, mask, scale in zip(xs, [(2, 3), (0, 1)], [32, 16], strict=True):
            n, _, h, w = x.shape
            parts = x.reshape(n, 2, 8, h, w)
            for row, column, a in np.ndindex(h, w, 2):
                v = parts[image, a, :, row, column]
                anchor = V3_ANCHORS[mask[a]]
                size = (anchor[0] / (w * scale), anchor[1] / (h * scale))
                box = slow.box_at(v, row, column, size, (h, w))
                for c in range(3):
                    score = slow.sigmoid(v[5 + c]) * slow.sigmoid(v[4])
                    if score > confidence:
                        found.append((score, c + 1, box))
        for score, label, box in slow.suppressed(found, threshold):
            rows.append([image, label, score, *slow.corners(box)])
    return rows


@pytest.mark.parametrize(("confidence", "threshold"), [(0.01, 0.45), (0.3, 0.1), (0.4, 1.0)])
def test_yolov2(make_layer: LayerMaker, confidence: float, threshold: float) -> None:
    (x,) = maps((2, 16, 4, 5))
    layer = make_layer(
        f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {V2}'
        f" confidence_threshold: {confidence} nms_threshold: {threshold} }}",
        x.shape,
    )
    (top,) = values_of(layer, x)
    np.testing.assert_allclose(top[0, 0], slow_v2(x, confidence, threshold), rtol=1e-6)


def test_yolov2_of_two_scales(make_layer: LayerMaker) -> None:
    xs = maps((2, 16, 2, 3), (2, 16, 4, 5))
    options = f"{V2} confidence_threshold: 0.2 nms_threshold"
    text = f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {options}'
    (top,) = values_of(make_layer(f"{text}: 1 }}", *(x.shape for x in xs)), *xs)
    each = [values_of(make_layer(f"{text}: 1 }}", x.shape), x)[0][0, 0] for x in xs]
    want = np.concatenate(each)
    want = want[np.lexsort((-want[:, 2], want[:, 0]))]
    np.testing.assert_allclose(top[0, 0], want, rtol=1e-6)
    (top,) = values_of(make_layer(f"{text}: 0 }}", *(x.shape for x in xs)), *xs)
    assert len(top[0, 0]) < len(want)
    with pytest.raises(NetError, match="maps are of different batches: 2 and 1 images"):
        make_layer(f"{text}: 0 }}", (2, 16, 4, 4), (1, 16, 2, 2)).top_shapes(
            (2, 16, 4, 4), (1, 16, 2, 2)
        )


@pytest.mark.parametrize(("confidence", "threshold"), [(0.1, 0.45), (0.3, 0.2), (0.5, 0.0)])
def test_yolov3(make_layer: LayerMaker, confidence: float, threshold: float) -> None:
    xs = maps((2, 16, 3, 2), (2, 16, 6, 4), seed=1)
    layer = make_layer(
        f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ {V3}'
        f" confidence_threshold: {confidence} nms_threshold: {threshold} }}",
        *(x.shape for x in xs),
    )
    (top,) = values_of(layer, *xs)
    np.testing.assert_allclose(top[0, 0], slow_v3(xs, confidence, threshold), rtol=1e-6)


def test_deviations_of_a_gaussian_box_lower_the_scores(make_layer: LayerMaker) -> None:
    (x,) = maps((1, 16, 3, 2))
    deviation = np.full((1, 2, 4, 3, 2), -1.0)
    deviation[0, 1, :, 2, 1] = [0.5, 1.0, -2.0, 0.25]
    parts = x.reshape(1, 2, 8, 3, 2)
    with_deviations = np.concatenate(
        [np.stack([parts[:, :, :4], deviation], 3).reshape(1, 2, 8, 3, 2), parts[:, :, 4:]], 2
    ).reshape(1, 24, 3, 2)
    options = (
        "num_classes: 3 num_box: 2 biases: [30, 60, 70, 50] mask: [0, 1] anchors_scale: 32"
        " mask_group_num: 1 confidence_threshold: 0 nms_threshold: 1"
    )
    text = f'type: "Yolov3DetectionOutput" yolov3_detection_output_param {{ {options}'
    plain = values_of(make_layer(f"{text} }}", x.shape), x)[0][0, 0]
    layer = make_layer(f"{text} gaussian_box: true }}", with_deviations.shape)
    have = values_of(layer, with_deviations)[0][0, 0]
    factor = {}
    for a, row, column in np.ndindex(2, 3, 2):
        v = parts[0, a, :, row, column]
        anchor = [(30 / 64, 60 / 96), (70 / 64, 50 / 96)][a]
        box = slow.corners(slow.box_at(v, row, column, anchor, (3, 2)))
        certain = 1 - np.mean([slow.sigmoid(d) for d in deviation[0, a, :, row, column]])
        factor[tuple(np.round(box, 6))] = certain
    want = {
        (int(r[1]), *np.round(r[3:], 6)): r[2] * factor[tuple(np.round(r[3:], 6))] for r in plain
    }
    assert len(have) == len(want)
    for row in have:
        assert row[2] == pytest.approx(want[int(row[1]), *np.round(row[3:], 6)])
    assert (np.diff(have[:, 2]) <= 0).all()


def test_without_biases_anchors_are_half_a_cell(make_layer: LayerMaker) -> None:
    (x,) = maps((1, 16, 4, 4))
    text = 'type: "YoloDetectionOutput" yolo_detection_output_param { num_classes: 3 num_box: 2'
    none = make_layer(f"{text} }}", x.shape)
    half = make_layer(f"{text} biases: [0.5, 0.5, 0.5, 0.5] }}", x.shape)
    np.testing.assert_array_equal(values_of(none, x)[0], values_of(half, x)[0])


def test_what_is_given_beyond_the_anchors_is_left_out(make_layer: LayerMaker) -> None:
    (x,) = maps((1, 8, 4, 4))
    few = make_layer(
        'type: "YoloDetectionOutput" yolo_detection_output_param { num_classes: 3 num_box: 1'
        " biases: [1, 2] }",
        x.shape,
    )
    more = make_layer(
        'type: "YoloDetectionOutput" yolo_detection_output_param { num_classes: 3 num_box: 1'
        " biases: [1, 2, 3, 4] }",
        x.shape,
    )
    np.testing.assert_array_equal(values_of(few, x)[0], values_of(more, x)[0])
    text = (
        'type: "Yolov3DetectionOutput" yolov3_detection_output_param { num_classes: 3 num_box: 1'
        " biases: [10, 20, 35, 15, 30, 60, 70, 50]"
    )
    few = make_layer(f"{text} mask: [2, 0] anchors_scale: [32, 16] }}", x.shape, x.shape)
    more = make_layer(f"{text} mask: [2, 3, 0, 1] anchors_scale: [32, 16, 8] }}", x.shape, x.shape)
    np.testing.assert_array_equal(values_of(few, x, x)[0], values_of(more, x, x)[0])


def test_nothing_found(make_layer: LayerMaker) -> None:
    layer = make_layer(
        f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {V2}'
        " confidence_threshold: 2 }",
        (2, 16, 4, 4),
    )
    (top,) = values_of(layer, *maps((2, 16, 4, 4)))
    assert top.tolist() == [[[[0, *[-1] * 6], [1, *[-1] * 6]]]]


def test_a_score_that_is_nan_is_no_detection(make_layer: LayerMaker) -> None:
    x = maps((1, 16, 4, 4))[0]
    layer = make_layer(
        f'type: "YoloDetectionOutput" yolo_detection_output_param {{ {V2} nms_threshold: 1 }}',
        x.shape,
    )
    everything = len(values_of(layer, x)[0][0, 0])
    x[0, 4, 1, 1] = np.nan
    assert len(values_of(layer, x)[0][0, 0]) == everything - 1


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (
            f"YoloDetectionOutput|{V2}",
            [(1, 15, 4, 4)],
            "2 anchors and 3 classes need a bottom of 16 channels (2 x (5 + 3))",
        ),
        ("YoloDetectionOutput|num_box: 2 biases: 1", [(1, 50, 4, 4)], "4 values; got 1"),
        (f"YoloDetectionOutput|{V2} coords: 5", [(1, 16, 4, 4)], "coords must be 4, got 5"),
        (
            f"Yolov3DetectionOutput|{V3}",
            [(1, 16, 4, 4), (1, 15, 4, 4)],
            "2 anchors and 3 classes need a bottom of 16 channels (2 x (5 + 3))",
        ),
        (f"Yolov3DetectionOutput|{V3}", [(1, 16, 4, 4)], "must be 1, the number of bottoms"),
        (
            "Yolov3DetectionOutput|biases: [1, 2] mask: [0, 0, 4] mask_group_num: 1"
            " anchors_scale: 8",
            [(1, 75, 4, 4)],
            "mask 4 has no anchor: biases hold 1",
        ),
        (
            "Yolov3DetectionOutput|biases: [1, 2] mask: 0 mask_group_num: 1 anchors_scale: 8",
            [(1, 75, 4, 4)],
            "mask needs 3 values for each of 1 bottoms, got 1",
        ),
        (
            f"Yolov3DetectionOutput|{V3}",
            [(1, 16, 4, 4), (2, 16, 8, 8)],
            "different batches: 1 and 2",
        ),
    ],
)
def test_bad_options(make_layer: LayerMaker, text: str, shapes: list[Any], message: str) -> None:
    kind, _, fields = text.partition("|")
    name = "yolov3_detection_output_param" if "v3" in kind else "yolo_detection_output_param"
    with pytest.raises(NetError, match=re.escape(message)):
        make_layer(f'type: "{kind}" {name} {{ {fields} }}', *shapes)


def values_of(layer: Any, *bottoms: Array) -> list[Array]:
    """Tops in double precision; their shapes depend on the values."""
    top = layer.double()(*(torch.from_numpy(np.asarray(b, np.float64)) for b in bottoms))
    return [top.numpy()]
