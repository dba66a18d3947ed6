from __future__ import annotations

from math import exp, log, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow
from tests.layers.detection.test_yolov3_loss import ANCHORS, FIELDS, MASK, matches, problem

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

SHAPE = (2, 24, 4, 5)
DEFAULTS: dict[str, Any] = {
    "object_scale": 1,
    "class_scale": 1,
    "coord_scale": 5,
    "thresh": 0.2,
    "use_logic_gradient": False,
    "use_focal_loss": False,
    "iou_normalizer": 0.25,
}


def box_at(v: Array, row: int, column: int, size: tuple[float, float]) -> slow.Box:
    return slow.box_at(v[[0, 2, 4, 6]], row, column, size, SHAPE[2:])


def slow_deltas(x: Array, labels: Array, o: dict[str, Any]) -> tuple[Array, float]:
    """The docstring, one number at a time. Returns the gradient and the loss's value."""
    n, _, h, w = x.shape
    parts = x.reshape(n, 2, 12, h, w)
    d = np.zeros_like(parts)
    sizes = [(ANCHORS[k][0] / (w * 16), ANCHORS[k][1] / (h * 16)) for k in MASK]
    for b, a, row, column in np.ndindex(n, 2, h, w):
        v = parts[b, a, :, row, column]
        true = [tuple(t[1:]) for t in labels[b] if t[3]]
        box = box_at(v, row, column, sizes[a])
        if max(slow.overlap(box, t) for t in true) <= o["thresh"]:
            d[b, a, 8, row, column] = slow.sigmoid(v[8])
    found = matches(labels, 1)
    missed = 0.0
    seen: dict[tuple[int, ...], list[int]] = {}
    for b, a, row, column, true in found:
        v, out = parts[b, a, :, row, column], d[b, a, :, row, column]
        label = int(true[0])
        cx, cy, tw, th = (float(number) for number in true[1:])
        missed += 1 - slow.overlap(box_at(v, row, column, sizes[a]), (cx, cy, tw, th))
        out[8] = slow.sigmoid(v[8]) - 1
        if o["use_logic_gradient"]:
            out[8] *= o["object_scale"]
        here = seen.setdefault((b, a, row, column), [])
        p = slow.sigmoid(v[9 + label])
        factor = (1 - p) * (1 - p - 2 * p * log(p)) / 2 if o["use_focal_loss"] else 1
        for c in range(3):
            if not here:
                out[9 + c] = o["class_scale"] * (slow.sigmoid(v[9 + c]) - (c == label)) * factor
            elif c == label != here[0]:
                out[9 + c] = o["class_scale"] * (slow.sigmoid(v[9 + c]) - 1)
        here.append(label)
        wanted = [cx * w - column, cy * h - row, log(tw / sizes[a][0]), log(th / sizes[a][1])]
        for k, t in enumerate(wanted):
            m = slow.sigmoid(v[2 * k]) if k < 2 else v[2 * k]
            r = slow.sigmoid(v[2 * k + 1])
            e = (t - m) / r
            q = exp(-e * e / 2) / (sqrt(2 * pi) * (r + 0.3))
            c = o["coord_scale"] * (2 - tw * th) * q / (q + 1e-9) / 2
            out[2 * k] = -c * e / r
            out[2 * k + 1] = c * (1 / (r + 0.3) - e * e / r)
    value = ((d**2).sum() + o["iou_normalizer"] * missed / len(found)) / n
    if o["use_logic_gradient"]:
        for k in range(12):
            if k not in (4, 6):
                s = 1 / (1 + np.exp(-parts[:, :, k]))
                d[:, :, k] *= s * (1 - s)
    return d.reshape(x.shape) / n, value


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"use_focal_loss": True, "object_scale": 3, "class_scale": 2},
        {"use_logic_gradient": True, "object_scale": 3, "thresh": 0.05, "coord_scale": 1},
        {"iou_normalizer": 3, "coord_scale": 0.5},
    ],
    ids=str,
)
def test_deltas(make_layer: LayerMaker, changed: dict[str, Any]) -> None:
    labels = problem()[1]
    x = np.random.default_rng(1).normal(size=SHAPE)
    fields = " ".join(f"{name}: {str(value).lower() if isinstance(value, bool) else value}"
                      for name, value in changed.items())  # fmt: skip
    layer = make_layer(
        f'type: "GaussianYolov3" yolov3_param {{ {FIELDS} {fields} noobject_scale: 9 }}',
        SHAPE,
        (2, 35),
    ).double()
    bottom = torch.tensor(x, requires_grad=True)
    loss = layer(bottom, torch.tensor(labels.reshape(2, 35)))
    (loss * 3).backward()
    want, value = slow_deltas(x, labels, DEFAULTS | changed)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), 3 * want, atol=1e-9)
    assert float(loss.detach()) == pytest.approx(value)


def test_deltas_follow_the_likelihood(make_layer: LayerMaker) -> None:
    """Where 1e-9 does not count, the delta of a mean is half the log density's derivative."""
    x = np.random.default_rng(2).normal(size=(1, 12, 1, 1)) * 0.3
    layer = make_layer(
        'type: "GaussianYolov3" yolov3_param { num_class: 3 num: 1 biases: [20, 20] mask: 0'
        " anchors_scale: 32 coord_scale: 1 }",
        (1, 12, 1, 1),
        (1, 5),
    ).double()
    bottom = torch.tensor(x, requires_grad=True)
    layer(bottom, torch.tensor([[1, 0.4, 0.6, 0.5, 0.5]])).backward()
    mean = bottom.detach()[0, 4, 0, 0].clone().requires_grad_()
    spread = bottom.detach()[0, 5, 0, 0].sigmoid()
    square = ((log(16 / 20) - mean) / spread).square() / 2
    (derivative,) = torch.autograd.grad(square, mean)
    assert bottom.grad is not None
    assert float(bottom.grad[0, 4, 0, 0]) == pytest.approx(float(derivative) * (2 - 0.25) / 2)


def test_without_true_boxes_objectness_falls(make_layer: LayerMaker) -> None:
    layer = make_layer(f'type: "GaussianYolov3" yolov3_param {{ {FIELDS} }}', SHAPE, (2, 5))
    bottom = torch.zeros(SHAPE, requires_grad=True)
    loss = layer(bottom, torch.zeros(2, 5))
    loss.backward()
    assert bottom.grad is not None
    by_channel = bottom.grad.view(2, 2, 12, 4, 5)
    assert (by_channel[:, :, 8] == 0.5 / 2).all()
    assert float(bottom.grad.abs().sum()) == pytest.approx(80 / 4)
    assert float(loss.detach()) == 80 / 4 / 2


def test_bad_map(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"need a bottom of 24 channels \(2 x \(9 \+ 3\)\)"):
        make_layer(f'type: "GaussianYolov3" yolov3_param {{ {FIELDS} }}', (2, 16, 4, 5), (2, 5))
