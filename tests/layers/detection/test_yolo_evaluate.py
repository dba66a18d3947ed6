from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tests.layers.detection import test_yolo_first as first
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

ANCHORS = [(1.5, 2.0), (1.0, 1.25)]
FIELDS = "side: 4 num_class: 3 num_object: 2 biases: [1.5, 2, 1, 1.25]"


def slow_rows(found: list[Any], true: list[Any], o: dict[str, Any]) -> Array:
    """Rows of label, score, right, wrong. found: (score, label, box); true: (label, box, hard)."""
    found = sorted(found, key=lambda f: -f[0])
    if o["nms"] >= 0:
        found = slow.suppressed(found, o["nms"])
        found = [f for f in found if f[0] >= o["least"]]
    rows, taken = [], set()
    for score, label, box in sorted(found, key=lambda f: (f[1], -f[0])):
        best, which = -1.0, -1
        for k, (other, true_box, _) in enumerate(true):
            if other == label and slow.overlap(box, true_box) > best:
                best, which = slow.overlap(box, true_box), k
        right, wrong = 0, 1
        if which >= 0 and best >= o["threshold"]:
            if true[which][2]:
                right, wrong = 0, 0
            elif which not in taken:
                right, wrong = 1, 0
                taken.add(which)
        rows.append([label, score, right, wrong])
    return np.array(rows)


def score_of(kind: str, objectness: float, probability: float) -> float:
    return {"OBJ": objectness, "PROB": probability}.get(kind, objectness * probability)


def padded(counts: Array, rows: Array, size: int) -> Array:
    top = np.zeros(size)
    values = np.concatenate([counts, rows.reshape(-1)])
    top[: len(values)] = values
    return top


def test_a_map_in_the_shape_of_yolov2_needs_no_biases(make_layer: LayerMaker, run: Runner) -> None:
    x = np.random.default_rng(1).normal(size=(1, 16, 4, 4))
    labels = np.array([[1, 0.4, 0.4, 0.1, 0.1]])
    text = 'type: "EvalDetection" eval_detection_param { side: 4 num_class: 3 num_object: 2'
    tops = []
    for biases in ("", "biases: [0.5, 0.5, 0.5, 0.5]"):
        make_layer(f"{text} {biases} }}", x.shape, labels.shape, (1, 3, 64, 64))
        layer = make_layer(f"{text} {biases} }}", x.shape, labels.shape)
        tops.append(run(layer, x, labels)[0])
    np.testing.assert_array_equal(tops[0], tops[1])
    assert tops[0][0, :3].tolist() == [0, 1, 0]


@pytest.mark.parametrize("score_type", ["OBJ", "PROB", "MULTIPLY"])
@pytest.mark.parametrize("nms", [-1, 0.3])
def test_yolov2(make_layer: LayerMaker, run: Runner, score_type: str, nms: float) -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 16, 4, 4))
    x[:, 4, 0] = -9  # scores that suppression leaves out
    labels = np.zeros((3, 6, 5))  # the third image has no true boxes
    labels[:2, :5, 0] = rng.integers(0, 2, (2, 5))
    labels[:2, :5, 1:3] = rng.uniform(0.1, 0.9, (2, 5, 2))
    labels[:2, :5, 3:] = rng.uniform(0.1, 0.5, (2, 5, 2))
    layer = make_layer(
        f'type: "EvalDetection" eval_detection_param {{ {FIELDS} threshold: 0.2'
        f" score_type: {score_type} nms: {nms} }}",
        x.shape,
        (3, 30),
    )
    (have,) = run(layer, x, labels.reshape(3, 30))
    parts = x.reshape(3, 2, 8, 4, 4)
    judged = set()
    for image in range(3):
        found = []
        for row, column, a in np.ndindex(4, 4, 2):
            v = parts[image, a, :, row, column]
            p = slow.softmax(v[5:])
            anchor = (ANCHORS[a][0] / 4, ANCHORS[a][1] / 4)
            box = slow.box_at(v, row, column, anchor, (4, 4))
            score = score_of(score_type, slow.sigmoid(v[4]), max(p))
            found.append((score, int(np.argmax(p)), box))
        true = [(int(t[0]), tuple(t[1:]), False) for t in labels[image] if t[3]]
        rows = slow_rows(found, true, {"nms": nms, "least": 0.005, "threshold": 0.2})
        judged |= {(int(right), int(wrong)) for _, _, right, wrong in rows}
        counts = [sum(t[0] == c for t in true) for c in range(3)]
        np.testing.assert_allclose(have[image], padded(np.array(counts), rows, have.shape[1]))
    assert judged == {(0, 1), (1, 0)}


@pytest.mark.parametrize("nms", [-1, 0.3])
@pytest.mark.parametrize("constriant", [True, False])
@pytest.mark.parametrize("roots", [True, False])
def test_yolov1(
    make_layer: LayerMaker, run: Runner, nms: float, *, constriant: bool, roots: bool
) -> None:
    x, labels = first.problem()
    cells = first.CELLS
    labels[:, :cells][:, [1, 0]] = 1  # difficult
    layer = make_layer(
        f'type: "EvalDetection" eval_detection_param {{ {first.FIELDS} threshold: 0.05 nms: {nms}'
        f" constriant: {str(constriant).lower()} sqrt: {str(roots).lower()} }}",
        x.shape,
        labels.shape,
    )
    (have,) = run(layer, x, labels)
    for image in range(2):
        maps = x[image].reshape(-1, cells)
        found = []
        for cell, k in np.ndindex(cells, 2):
            label = int(np.argmax(maps[:4, cell]))
            v = maps[6 + 4 * k : 10 + 4 * k, cell].copy()
            if constriant:
                v[:2] = (np.array([cell % 3, cell // 3]) + v[:2]) / 3
            if roots:
                v[2:] = v[2:] ** 2
            score = maps[4 + k, cell] * maps[label, cell]
            found.append((score, label, tuple(v)))
        true = []
        for cell in np.flatnonzero(labels[image, cells : 2 * cells]):
            start = 3 * cells + 4 * cell
            box = tuple(labels[image, start : start + 4])
            hard = labels[image, cell] == 1
            true.append((int(labels[image, 2 * cells + cell]), box, hard))
        rows = slow_rows(found, true, {"nms": nms, "least": 0, "threshold": 0.05})
        counts = [sum(t[0] == c and not t[2] for t in true) for c in range(4)]
        np.testing.assert_allclose(have[image], padded(np.array(counts), rows, have.shape[1]))


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        (FIELDS, [(2, 16, 3, 3), (2, 5)], "side 4 does not fit a map of shape 2 16 3 3"),
        (FIELDS, [(2, 15, 4, 4), (2, 5)], "need a bottom of 16 channels"),
        ("side: 3", [(2, 16, 4, 4), (2, 63)], "3 x 3 cells need 30 numbers a cell for the map"),
    ],
)
def test_shapes(make_layer: LayerMaker, fields: str, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "EvalDetection" eval_detection_param {{ {fields} }}', *shapes)
