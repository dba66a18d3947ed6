from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

    from moka.types import Array

N, C, H, W = 2, 3, 3, 4
X, TRUTH = (N, C + 4, H, W), (N, 6, H, W)
FIELD = "field_w: 20 field_h: 16 downsample_rate: 8"


def loss(fields: str = "", more: str = "") -> str:
    fields = f"cls_num: {C} {FIELD} {fields}"
    return f'type: "DetectionLoss" detection_loss_param {{ {fields} }} {more}'


def accuracy(fields: str = "") -> str:
    fields = f"cls_num: {C} {FIELD} {fields}"
    return f'type: "DetectionAccuracy" top: "a" top: "b" detection_accuracy_param {{ {fields} }}'


def blobs() -> tuple[Array, Array]:
    """Maps, and truth with three positive cells and one that overlaps a box too much to count."""
    rng = np.random.default_rng(1)
    x = rng.normal(0, 0.15, X)
    truth = np.zeros(TRUTH)
    truth[:, 5] = rng.uniform(0, 0.4, (N, H, W))
    for image, i, j, label, shared in ((0, 1, 1, 1, 0.7), (0, 2, 3, 2, 0.6), (1, 0, 2, 2, 0.9)):
        center = 8 * (np.array([j, i]) + 0.5)
        truth[image, :, i, j] = [label, center[0] + 2, center[1] - 1, 24, 12, shared]
    truth[1, 5, 2, 2] = 0.6
    return x, truth


def box_errors(deltas: Array, truth: Array, i: int, j: int, square: bool = False) -> float:
    """The loss of the deltas of one cell."""
    limits = [0.5, 0.5, log(2), log(2)]
    center = 8 * (np.array([j, i]) + 0.5)
    moved = (truth[1:3] - center) / [20, 16]
    grown = np.log(np.maximum(truth[3:5], 2) / [20, 16])
    d = np.clip(deltas, np.negative(limits), limits) - np.concatenate([moved, grown])
    small = 0.5 * d * d
    return float((small if square else np.where(abs(d) < 1, small, abs(d) - 0.5)).sum())


def slow_loss(
    x: Array, truth: Array, factor: float = 1, weighted: str = "", square: bool = False
) -> list[float]:
    """With all background cells."""
    classes = boxes = 0.0
    cells = positives = 0
    whole = {True: 0.0, False: 0.0}
    for image, i, j in np.ndindex(N, H, W):
        label, shared = int(truth[image, 0, i, j]), truth[image, 5, i, j]
        if not label and shared >= 0.5:
            continue
        weight = shared if "iou" in weighted and label else 1.0
        whole[label > 0] += weight
        cells += 1
        positives += label > 0
    for image, i, j in np.ndindex(N, H, W):
        label, shared = int(truth[image, 0, i, j]), truth[image, 5, i, j]
        if not label and shared >= 0.5:
            continue
        s = x[image, :C, i, j]
        weight = shared if "iou" in weighted and label else 1.0
        if "pos_neg" in weighted:
            weight *= (0.2 if label else 0.8) * cells / whole[label > 0]
        classes += weight * (log(np.exp(s).sum()) - s[label])
        if label:
            boxes += box_errors(x[image, C:, i, j], truth[image, :, i, j], i, j, square)
    boxes *= factor / (4 * positives)
    return [classes / cells + boxes, boxes]


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ("", {}),
        ("lambda: 0.5 bb_smooth: false", {"factor": 0.5, "square": True}),
        ("iou_weighted: true", {"weighted": "iou"}),
        ("pos_neg_weighted: true", {"weighted": "pos_neg"}),
        ("iou_weighted: true pos_neg_weighted: true", {"weighted": "iou pos_neg"}),
    ],
)
def test_value(make_layer: LayerMaker, run: Runner, fields: str, form: dict[str, object]) -> None:
    x, truth = blobs()
    (top,) = run(make_layer(loss(f'sample_mode: "all" {fields}'), X, TRUTH), x, truth)
    want = slow_loss(x, truth, **form)  # type: ignore[arg-type]
    np.testing.assert_allclose(top.ravel(), want, rtol=1e-9)


def test_hard_cells(make_layer: LayerMaker, run: Runner) -> None:
    """Four background cells for each class, those with the largest score of that class."""
    x, truth = blobs()
    layer = make_layer(loss('sample_mode: "bootstrap" bg_multiple: 1'), X, TRUTH)
    (top,) = run(layer, x, truth)
    kept = truth.copy()
    for image in range(N):
        background = (truth[image, 0] == 0) & (truth[image, 5] < 0.5)
        hard: set[tuple[int, int]] = set()
        for label in (1, 2):
            cells = sorted(zip(*np.nonzero(background), strict=True),
                           key=lambda c: -x[image, label, c[0], c[1]])  # fmt: skip
            hard |= {(int(i), int(j)) for i, j in cells[:4]}
        for i, j in np.ndindex(H, W):
            if background[i, j] and (i, j) not in hard:
                kept[image, 5, i, j] = 0.6  # does not count
    np.testing.assert_allclose(top.ravel(), slow_loss(x, kept), rtol=1e-9)


def test_of_equally_hard_cells_the_last_count(make_layer: LayerMaker) -> None:
    layer = make_layer(loss('sample_mode: "bootstrap" bg_multiple: 1'), X, TRUTH).double()
    given = torch.zeros(X, dtype=torch.float64, requires_grad=True)
    top = layer(given, torch.zeros(TRUTH, dtype=torch.float64))
    assert isinstance(top, torch.Tensor)
    torch.autograd.backward(top.sum())
    assert given.grad is not None
    counted = given.grad[:, 0].flatten(1) != 0
    assert counted.nonzero()[:, 1].tolist() == [*range(H * W - 4, H * W)] * N


@pytest.mark.parametrize("mode", ["random", "mixture"])
def test_drawn_cells(make_layer: LayerMaker, run: Runner, mode: str) -> None:
    """With so many draws all cells are drawn, nearly surely."""
    x, truth = blobs()
    text = loss(f'sample_mode: "{mode}" bg_multiple: 1000')
    (top,) = run(make_layer(text, X, TRUTH), x, truth)
    np.testing.assert_allclose(top.ravel(), slow_loss(x, truth), rtol=1e-9)


@pytest.mark.parametrize(("multiple", "most"), [(1, 8), (20, 20)])
def test_so_many_cells_are_drawn(make_layer: LayerMaker, multiple: int, most: int) -> None:
    """For each positive cell bg_multiple others, but four for each class at least."""
    truth = torch.zeros(1, 6, 10, 10, dtype=torch.float64)
    truth[0, :, 4, 4] = torch.tensor([1, 36, 36, 20, 16, 0.9])
    x = torch.zeros(1, X[1], 10, 10, dtype=torch.float64, requires_grad=True)
    layer = make_layer(loss(f'sample_mode: "random" bg_multiple: {multiple}'), x.shape, truth.shape)
    top = layer(x, truth)
    assert isinstance(top, torch.Tensor)
    torch.autograd.backward(top.sum())
    assert x.grad is not None
    counted = x.grad[0, :3].abs().sum(0) > 0
    assert counted[4, 4]
    assert most / 2 < counted.sum() <= most + 1


def test_objects_of_any_class(make_layer: LayerMaker, run: Runner) -> None:
    x, truth = blobs()
    x = x[:, 1:]
    text = loss('sample_mode: "all"').replace("cls_num: 3", "cls_num: 2")
    shapes = x.shape, TRUTH
    one = truth.copy()
    one[:, 0] = truth[:, 0] > 0
    want = run(make_layer(text, *shapes), x, one)
    have = run(make_layer(text.replace("cls_num", "objectness: true cls_num"), *shapes), x, truth)
    np.testing.assert_allclose(have, want)


def test_gradient(make_layer: LayerMaker) -> None:
    """Within the limits it is that of the loss; the second value has none."""
    x, truth = blobs()
    layer = make_layer(loss('sample_mode: "all" iou_weighted: true'), X, TRUTH).double()
    given = torch.from_numpy(x).requires_grad_()
    top = layer(given, torch.from_numpy(truth))
    assert isinstance(top, torch.Tensor)
    torch.autograd.backward(top.sum())
    assert given.grad is not None
    for place in ((0, 1, 1, 1), (0, 4, 1, 1), (1, C, 0, 2), (0, 0, 0, 0)):
        sides = []
        for step in (1e-6, -1e-6):
            moved = x.copy()
            moved[place] += step
            sides.append(slow_loss(moved, truth, weighted="iou")[0])
        np.testing.assert_allclose(
            given.grad[place], (sides[0] - sides[1]) / 2e-6, rtol=1e-5, atol=1e-9
        )


def test_accuracy(make_layer: LayerMaker, run: Runner) -> None:
    x, truth = blobs()
    classes, boxes = run(make_layer(accuracy(), X, TRUTH), x, truth)
    right, right_positive, shared = [], [], []
    for image, i, j in np.ndindex(N, H, W):
        label = int(truth[image, 0, i, j])
        if not label and truth[image, 5, i, j] >= 0.5:
            continue
        hit = int(x[image, :C, i, j].argmax()) == label
        right.append(hit)
        if label:
            right_positive.append(hit)
            moved = np.clip(x[image, C : C + 2, i, j], -0.25, 0.25) * [20, 16]
            size = np.exp(np.clip(x[image, C + 2 :, i, j], -log(2), log(2))) * [20, 16]
            corner = 8 * (np.array([j, i]) + 0.5) + moved - size / 2
            true = truth[image, 1:3, i, j] - truth[image, 3:5, i, j] / 2
            low = np.maximum(corner, true)
            high = np.minimum(corner + size, true + truth[image, 3:5, i, j])
            both = np.prod(np.maximum(high - low, 0))
            shared.append(both / (np.prod(size) + np.prod(truth[image, 3:5, i, j]) - both))
    np.testing.assert_allclose(classes.ravel(), [np.mean(right), np.mean(right_positive)])
    np.testing.assert_allclose(boxes.ravel(), np.mean(shared), rtol=1e-9)


@pytest.mark.parametrize(("top_k", "best"), [(1, (2,)), (2, (1, 2)), (3, (0, 1, 2))])
def test_of_equal_scores_the_last_class_is_the_best(
    make_layer: LayerMaker, run: Runner, top_k: int, best: tuple[int, ...]
) -> None:
    x, truth = blobs()
    x[:, :C] = 0
    classes, _ = run(make_layer(accuracy(f"top_k: {top_k}"), X, TRUTH), x, truth)
    label = truth[:, 0]
    counted = (label != 0) | (truth[:, 5] < 0.5)
    want = [np.isin(label[mask], best).mean() for mask in (counted, label != 0)]
    np.testing.assert_allclose(classes.ravel(), want)


def test_nothing_counts(make_layer: LayerMaker, run: Runner) -> None:
    x, truth = blobs()
    truth[:, 0] = 0
    truth[:, 5] = 0.9
    classes, boxes = run(make_layer(accuracy(), X, TRUTH), x, truth)
    assert classes.ravel().tolist() == [-1, -1]
    assert boxes.item() == -1
    (top,) = run(make_layer(loss(), X, TRUTH), x, truth)
    assert top.ravel().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("text", "shapes", "words"),
    [
        (loss(), ((N, 6, H, W), TRUTH), "needs 7, got shape"),
        (loss(), (X, (N, 5, H, W)), "is a blob 2 6 3 4"),
        (loss("coord_num: 5"), (X, TRUTH), "coord_num must be 4"),
        (loss("objectness: true"), (X, TRUTH), "objectness needs cls_num: 2"),
        (accuracy(), (X, (N, 5, H, W)), "is a blob 2 6 3 4"),
    ],
)
def test_faults(
    make_layer: LayerMaker, text: str, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    with pytest.raises(NetError, match=words):
        make_layer(text, *shapes)
