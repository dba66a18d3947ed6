from __future__ import annotations

import re
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

SIDE, CLASSES, BOXES = 3, 4, 2
CELLS = SIDE * SIDE
FIELDS = "side: 3 num_class: 4 num_object: 2"


def problem() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    x = rng.uniform(0.1, 0.9, (2, CELLS * (CLASSES + 5 * BOXES)))
    labels = np.zeros((2, 7 * CELLS))
    for image, cells in ((0, (1, 4, 8)), (1, (0,))):
        for cell in cells:
            labels[image, CELLS + cell] = 1
            labels[image, 2 * CELLS + cell] = rng.integers(0, CLASSES)
            start = 3 * CELLS + 4 * cell
            center = (np.array([cell % SIDE, cell // SIDE]) + rng.uniform(0, 1, 2)) / SIDE
            labels[image, start : start + 4] = [*center, *rng.uniform(0.1, 0.9, 2)]
    labels[0, 3 * CELLS + 16 + 2 : 3 * CELLS + 20] = 1e-3  # overlaps no box: the nearest counts
    return x, labels


def slow_loss(x: Array, labels: Array, o: dict[str, Any]) -> tuple[Array, float]:
    """Deltas and value, one number at a time."""
    d = np.zeros_like(x)
    positive, negative, objects = 0.0, 0.0, 0
    for b in range(2):
        obj = CLASSES * CELLS
        box = (CLASSES + BOXES) * CELLS
        for cell in range(CELLS):
            confidences = [obj + k * CELLS + cell for k in range(BOXES)]
            for index in confidences:
                d[b, index] = o["noobject_scale"] * x[b, index]
                negative += o["noobject_scale"] * x[b, index] ** 2
            if not labels[b, CELLS + cell]:
                continue
            objects += 1
            label = int(labels[b, 2 * CELLS + cell])
            for c in range(CLASSES):
                apart = x[b, c * CELLS + cell] - (c == label)
                d[b, c * CELLS + cell] = o["class_scale"] * apart
                positive += o["class_scale"] * apart**2
            true = labels[b, 3 * CELLS + 4 * cell : 3 * CELLS + 4 * cell + 4]
            found = []
            for k in range(BOXES):
                v = [x[b, box + (4 * k + n) * CELLS + cell] for n in range(4)]
                if o["constriant"]:
                    v[:2] = [(cell % SIDE + v[0]) / SIDE, (cell // SIDE + v[1]) / SIDE]
                if o["sqrt"]:
                    v[2:] = [v[2] ** 2, v[3] ** 2]
                far = sqrt(sum((p - q) ** 2 for p, q in zip(v, true, strict=True)))
                found.append((slow.overlap(tuple(v), tuple(true)), -far, -k))
            best = -max(found)[2]
            shared = found[best][0]
            index = confidences[best]
            d[b, index] = o["object_scale"] * (x[b, index] - shared)
            negative -= o["noobject_scale"] * x[b, index] ** 2
            positive += o["object_scale"] * (x[b, index] - 1) ** 2
            wanted = list(true)
            if o["constriant"]:
                wanted[:2] = [true[0] * SIDE - cell % SIDE, true[1] * SIDE - cell // SIDE]
            if o["sqrt"]:
                wanted[2:] = [sqrt(true[2]), sqrt(true[3])]
            for n in range(4):
                index = box + (4 * best + n) * CELLS + cell
                d[b, index] = o["coord_scale"] * (x[b, index] - wanted[n])
                positive += o["coord_scale"] * (x[b, index] - wanted[n]) ** 2
    return d / 2, positive / objects + negative / (2 * CELLS * BOXES - objects)


DEFAULTS: dict[str, Any] = {
    "object_scale": 1,
    "noobject_scale": 0.5,
    "class_scale": 1,
    "coord_scale": 5,
    "sqrt": True,
    "constriant": False,
}


@pytest.mark.parametrize(
    "changed",
    [{}, {"sqrt": False}, {"constriant": True}, {"object_scale": 3, "class_scale": 2}],
    ids=str,
)
def test_deltas(make_layer: LayerMaker, changed: dict[str, Any]) -> None:
    x, labels = problem()
    fields = " ".join(f"{name}: {str(value).lower()}" for name, value in changed.items())
    layer = make_layer(
        f'type: "YoloDetectionLoss" detection_loss_param {{ {FIELDS} {fields} }}',
        x.shape,
        labels.shape,
    ).double()
    bottom = torch.tensor(x, requires_grad=True)
    loss = layer(bottom, torch.tensor(labels))
    loss.backward()
    want, value = slow_loss(x, labels, DEFAULTS | changed)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad.numpy(), want, atol=1e-12)
    assert float(loss.detach()) == pytest.approx(value)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(2, 125), (2, 63)], "need 14 numbers a cell for the map, 126 an image"),
        ([(2, 126), (2, 62)], "need 7 numbers a cell for true boxes, 63 an image"),
        ([(2, 126), (1, 63)], "true boxes"),
    ],
)
def test_shapes(make_layer: LayerMaker, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=re.escape(message)):
        make_layer(f'type: "YoloDetectionLoss" detection_loss_param {{ {FIELDS} }}', *shapes)
