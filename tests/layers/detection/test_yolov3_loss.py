from __future__ import annotations

import re
from math import atan, log, pi
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.layers.detection.objects import Objects
from moka.layers.detection.yolov3_loss import match, match_quality
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

ANCHORS = [(10.0, 20.0), (35.0, 15.0), (30.0, 40.0), (70.0, 50.0)]
MASK = (3, 1)
FIELDS = (
    "num_class: 3 num: 2 biases: [10, 20, 35, 15, 30, 40, 70, 50] mask: [3, 1] anchors_scale: 16"
)
SHAPE = (2, 16, 4, 5)
KINDS = ["IOU", "GIOU", "DIOU", "CIOU"]


@pytest.mark.parametrize(("threshold", "anchors"), [(1, [0]), (0.5, [0]), (0.49, [0, 1])])
def test_anchors_overlap_by_more_than_the_threshold(threshold: float, anchors: list[int]) -> None:
    half = torch.full((1, 2), 0.5)
    objects = Objects(torch.tensor([0]), torch.tensor([0]), half, half)
    shapes = torch.tensor([[0.5, 0.5], [0.5, 0.25], [0.25, 0.25]])
    found = match(objects, shapes, (0, 1, 2), (4, 5), threshold)
    assert found.object.tolist() == [0] * len(anchors)
    assert [place.tolist() for place in found.place] == [
        [0] * len(anchors), anchors, [2] * len(anchors), [2] * len(anchors)
    ]  # fmt: skip


def problem(seed: int = 0) -> tuple[Array, Array]:
    """A map and true boxes; three of them lie at the same place, one twice with the same label."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((2, 7, 5))
    for image, count in ((0, 6), (1, 2)):
        labels[image, :count, 0] = rng.integers(0, 3, count)
        labels[image, :count, 1:3] = rng.uniform(0.05, 0.95, (count, 2))
        labels[image, :count, 3:] = rng.uniform(0.1, 0.9, (count, 2))
    labels[0, 0, 1:] = [0.51, 0.51, 0.8, 0.7]
    labels[0, 1] = labels[0, 0] + [0, 1e-3, 1e-3, 1e-3, 2e-3]
    labels[0, 2] = labels[0, 0] + [0, 2e-3, 1e-3, 4e-3, 2e-3]
    labels[0, 2, 0] = (labels[0, 0, 0] + 1) % 3
    return rng.normal(size=SHAPE), labels


def slow_measure(a: slow.Box, b: slow.Box, kind: str) -> float:
    iou = slow.overlap(a, b)
    ca, cb = slow.corners(a), slow.corners(b)
    w = max(ca[2], cb[2]) - min(ca[0], cb[0])
    h = max(ca[3], cb[3]) - min(ca[1], cb[1])
    if kind == "IOU":
        return iou
    if kind == "GIOU":
        both = (a[2] * a[3] + b[2] * b[3]) / (1 + iou)
        return iou - (w * h - both) / (w * h)
    diou = iou - ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / (w * w + h * h)
    if kind == "DIOU":
        return diou
    v = 4 / pi**2 * (atan(a[2] / a[3]) - atan(b[2] / b[3])) ** 2
    return diou - v / (1 - iou + v + 1e-6) * v


@pytest.mark.parametrize("kind", KINDS)
def test_measures(kind: str) -> None:
    rng = np.random.default_rng(3)
    for far in (0.05, 1.0):
        a, b = (
            np.concatenate([rng.uniform(0, far, (20, 2)), rng.uniform(0.1, 0.4, (20, 2))], 1)
            for _ in range(2)
        )
        true = Objects(
            torch.zeros(20), torch.zeros(20), torch.tensor(b[:, :2]), torch.tensor(b[:, 2:])
        )
        have = match_quality(torch.tensor(a[:, :2]), torch.tensor(a[:, 2:]), true, kind).tolist()
        want = [slow_measure(tuple(p), tuple(q), kind) for p, q in zip(a, b, strict=True)]
        assert have == pytest.approx(want)


def matches(labels: Array, iou_thresh: float) -> list[tuple[int, int, int, int, Any]]:
    """Image, anchor of the scale, row, column and true box, in order."""
    h, w = SHAPE[2:]
    found = []
    for image in range(2):
        for true in labels[image][labels[image][:, 3] > 0]:
            shapes = [
                slow.overlap((0, 0, a / (w * 16), b / (h * 16)), (0, 0, true[3], true[4]))
                for a, b in ANCHORS
            ]
            best = int(np.argmax(shapes))
            for place, k in enumerate(MASK):
                if k == best or shapes[k] > iou_thresh:
                    found.append((image, place, int(true[2] * h), int(true[1] * w), true))
    return found


def slow_deltas(x: Array, labels: Array, o: dict[str, Any]) -> tuple[Array, float]:
    """The docstring, one number at a time. Returns the deltas and the loss's value."""
    n, _, h, w = x.shape
    parts = x.reshape(n, 2, 8, h, w)
    d = np.zeros_like(parts)
    sizes = [(ANCHORS[k][0] / (w * 16), ANCHORS[k][1] / (h * 16)) for k in MASK]
    for b, a, row, column in np.ndindex(n, 2, h, w):
        v = parts[b, a, :, row, column]
        box = slow.box_at(v, row, column, sizes[a], (h, w))
        true = [tuple(t[1:]) for t in labels[b] if t[3]]
        if max(slow.overlap(box, t) for t in true) <= o["thresh"]:
            d[b, a, 4, row, column] = o["noobject_scale"] * slow.sigmoid(v[4])
    added = 0.0
    seen: dict[tuple[int, ...], list[int]] = {}
    for b, a, row, column, true in matches(labels, o["iou_thresh"]):
        v, out = parts[b, a, :, row, column], d[b, a, :, row, column]
        label = int(true[0])
        cx, cy, tw, th = (float(number) for number in true[1:])
        s = [slow.sigmoid(value) for value in v]
        out[4] = o["object_scale"] * (s[4] - 1)
        here = seen.setdefault((b, a, row, column), [])
        eps = o["label_smooth_eps"]
        if not here or not o["use_focal_loss"]:
            for c in range(3):
                one = c == label or c in here
                target = 1 - eps / 2 if one else eps / 2
                out[5 + c] = o["class_scale"] * (s[5 + c] - target)
                if o["use_focal_loss"]:
                    p = s[5 + label]
                    factor = (1 - p) * (1 - p - 2 * p * log(p)) / 2
                    out[5 + c] = o["class_scale"] * (s[5 + c] - (c == label)) * factor
        elif label != here[0]:
            out[5 + label] = o["class_scale"] * (s[5 + label] - (1 - eps / 2))
        here.append(label)
        if o["iou_loss"] == "MSE":
            scale = o["coord_scale"] * (2 - tw * th)
            deltas = [
                scale * (s[0] - (cx * w - column)),
                scale * (s[1] - (cy * h - row)),
                scale * (v[2] - log(tw / sizes[a][0])),
                scale * (v[3] - log(th / sizes[a][1])),
            ]
        else:
            predicted = slow.box_at(v, row, column, sizes[a], (h, w))
            quality = slow_measure(predicted, (cx, cy, tw, th), o["iou_loss"])
            added += o["iou_normalizer"] * (1 - quality)
            deltas = []
            for k in range(4):
                step = np.zeros(4)
                step[k] = 1e-6
                up, down = (frozen(predicted, sign * step, true, o["iou_loss"]) for sign in (1, -1))
                slope = (up - down) / 2e-6 * (np.exp(v[k]) if k > 1 else 1)
                deltas.append(
                    np.clip(-o["iou_normalizer"] * slope, -o["max_delta"], o["max_delta"])
                )
        out[:4] = out[:4] + deltas if o["accumulate"] else deltas
    counted = d.copy()
    if o["iou_loss"] != "MSE":
        counted[:, :, :4] = 0
    value = ((counted**2).sum() + added) / n
    if o["use_logic_gradient"]:
        for k in range(8):
            if k not in (2, 3):
                active = 1 / (1 + np.exp(-parts[:, :, k]))
                d[:, :, k] *= active * (1 - active)
    return d.reshape(x.shape) / n, value


def frozen(box: slow.Box, step: Array, true: Array, kind: str) -> float:
    """The measure of a box that is moved, with CIOU's weight as it was before."""
    moved = tuple(np.array(box) + step)
    other = tuple(true[1:])
    if kind != "CIOU":
        return slow_measure(moved, other, kind)
    v = [4 / pi**2 * (atan(b[2] / b[3]) - atan(other[2] / other[3])) ** 2 for b in (box, moved)]
    weight = v[0] / (1 - slow.overlap(box, other) + v[0] + 1e-6)
    return slow_measure(moved, other, "DIOU") - weight * v[1]


DEFAULTS: dict[str, Any] = {
    "object_scale": 1,
    "noobject_scale": 0.5,
    "class_scale": 1,
    "coord_scale": 5,
    "thresh": 0.2,
    "use_logic_gradient": False,
    "use_focal_loss": False,
    "iou_loss": "MSE",
    "iou_normalizer": 0.25,
    "iou_thresh": 0.5,
    "max_delta": 10,
    "accumulate": True,
    "label_smooth_eps": 0.1,
}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"accumulate": False, "iou_thresh": 1, "label_smooth_eps": 0},
        {"use_focal_loss": True, "object_scale": 3, "noobject_scale": 2, "class_scale": 2},
        {"use_logic_gradient": True, "thresh": 0.05, "coord_scale": 1, "iou_thresh": 0.1},
        *({"iou_loss": kind, "iou_normalizer": 2} for kind in KINDS),
        {"iou_loss": "GIOU", "max_delta": 0.02, "accumulate": False, "iou_thresh": 0.2},
    ],
    ids=str,
)
def test_deltas(make_layer: LayerMaker, changed: dict[str, Any]) -> None:
    x, labels = problem()
    fields = " ".join(f"{name}: {str(value).lower() if isinstance(value, bool) else value}"
                      for name, value in changed.items())  # fmt: skip
    layer = make_layer(
        f'type: "Yolov3" yolov3_param {{ {FIELDS} {fields} }}', SHAPE, (2, 35)
    ).double()
    bottom = torch.tensor(x, requires_grad=True)
    loss = layer(bottom, torch.tensor(labels.reshape(2, 35)))
    (loss * 3).backward()
    want, value = slow_deltas(x, labels, DEFAULTS | changed)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), 3 * want, atol=1e-7)
    assert float(loss.detach()) == pytest.approx(value)


def test_without_true_boxes_objectness_falls(make_layer: LayerMaker) -> None:
    layer = make_layer(f'type: "Yolov3" yolov3_param {{ {FIELDS} }}', SHAPE, (2, 5))
    bottom = torch.zeros(SHAPE, requires_grad=True)
    layer(bottom, torch.zeros(2, 5)).backward()
    assert bottom.grad is not None
    by_channel = bottom.grad.view(2, 2, 8, 4, 5)
    assert (by_channel[:, :, 4] == 0.5 * 0.5 / 2).all()
    assert not by_channel[:, :, [0, 1, 2, 3, 5, 6, 7]].any()


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        (FIELDS, [(2, 15, 4, 5), (2, 5)], "need a bottom of 16 channels"),
        (FIELDS, [SHAPE, (3, 5)], "true boxes are 5 numbers each"),
        (
            "num: 3 biases: [1, 2] mask: [0, 0]",
            [(2, 75, 4, 4), (2, 5)],
            "mask needs 3 values, got 2",
        ),
        ("num: 1 biases: [1, 2] mask: 1", [(2, 25, 4, 4), (2, 5)], "mask 1 has no anchor"),
        ("num: 1 biases: [1, 2, 3] mask: 1", [(2, 25, 4, 4), (2, 5)], "an even number of values"),
    ],
)
def test_bad_options(make_layer: LayerMaker, fields: str, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=re.escape(message)):
        make_layer(f'type: "Yolov3" yolov3_param {{ {fields} }}', *shapes)
