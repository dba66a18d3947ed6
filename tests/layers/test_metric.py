from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

    from moka.types import Shape


@pytest.mark.parametrize("ignored", [None, 2])
@pytest.mark.parametrize("top_k", [1, 2, 4])
@pytest.mark.parametrize(
    ("axis", "scores", "labels"),
    [(1, (40, 4), (40,)), (1, (5, 4, 3), (5, 3)), (-1, (5, 3, 4), (5, 3)), (0, (4, 7), (7,))],
)
def test_accuracy(
    make_layer: LayerMaker,
    run: Runner,
    axis: int,
    scores: Shape,
    labels: Shape,
    top_k: int,
    ignored: int | None,
) -> None:
    more = "" if ignored is None else f"ignore_label: {ignored}"
    fields = f"top_k: {top_k} axis: {axis} {more}"
    text = f'type: "Accuracy" top: "a" top: "c" accuracy_param {{ {fields} }}'
    layer = make_layer(text, scores, labels)
    rng = np.random.default_rng(3)
    x = rng.integers(0, 5, scores).astype(float)  # many ties
    t = rng.integers(0, 3, labels)  # class 3 never appears
    accuracy, of_class = run(layer, x, t)
    moved = np.moveaxis(x, axis, -1).reshape(-1, 4)
    right, members = np.zeros(4), np.zeros(4)
    for line, label in zip(moved, t.flat, strict=True):
        if label == ignored:
            continue
        better = sum(line[k] >= line[label] for k in range(4) if k != label)
        members[label] += 1
        right[label] += better < top_k
    # Counts are exact, their quotient has single precision.
    assert accuracy == pytest.approx(right.sum() / members.sum(), rel=1e-6)
    for k in range(4):
        assert of_class[k] == pytest.approx(right[k] / max(members[k], 1), rel=1e-6)


@pytest.mark.parametrize(("score", "expected"), [(1.0, 0.0), (2.0, 1.0)])
def test_ties_count_against_the_label(
    make_layer: LayerMaker, run: Runner, score: float, expected: float
) -> None:
    layer = make_layer('type: "Accuracy"', (1, 3), (1,))
    (accuracy,) = run(layer, np.array([[score, 1.0, 1.0]]), np.array([0]))
    assert accuracy == expected


def test_without_valid_labels_the_accuracy_is_zero(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "Accuracy" accuracy_param { ignore_label: 1 }', (2, 3), (2,))
    assert run(layer, np.zeros((2, 3)), np.ones(2))[0] == 0


def test_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Accuracy"', (1, 3), (1,))
    assert not layer(torch.ones(1, 3, requires_grad=True), torch.zeros(1)).requires_grad


@pytest.mark.parametrize(
    ("fields", "labels", "message"),
    [
        ("top_k: 4", (2,), r"top_k must be <= number of classes \(3\), got 4"),
        ("top_k: 0", (2,), "top_k must be > 0"),
        ("", (3,), "Number of labels must match"),
        ("axis: 2", (2,), "axis 2 does not exist"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, labels: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Accuracy" accuracy_param {{ {fields} }}', (2, 3), labels)


def largest(values: Array, top_k: int) -> list[int]:
    """Indices of the largest values; among equal ones the larger index first."""
    return sorted(range(len(values)), key=lambda k: (values[k], k), reverse=True)[:top_k]


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 2), (2, 2, 2, 2), (2, 1, 2, 1, 3)])
def test_arg_max_of_items(make_layer: LayerMaker, run: Runner, shape: Shape, top_k: int) -> None:
    x = np.random.default_rng(1).integers(0, 4, shape).astype(float)  # many ties
    rows = x.reshape(shape[0], -1)
    index = [largest(row, top_k) for row in rows]
    more = (1,) * (len(shape) - 3)
    (y,) = run(make_layer(f'type: "ArgMax" argmax_param {{ top_k: {top_k} }}', shape), x)
    assert y.shape == (shape[0], 1, top_k, *more)
    assert y.reshape(shape[0], top_k).tolist() == index
    fields = f"top_k: {top_k} out_max_val: true"
    (y,) = run(make_layer(f'type: "ArgMax" argmax_param {{ {fields} }}', shape), x)
    assert y.shape == (shape[0], 2, top_k, *more)
    for row, chosen, pair in zip(rows, index, y.reshape(shape[0], 2, top_k), strict=True):
        assert pair.tolist() == [chosen, row[chosen].tolist()]


@pytest.mark.parametrize("top_k", [1, 3])
@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 4)), (0, (3, 2)), (-2, (2, 4, 3))])
def test_arg_max_along_an_axis(
    make_layer: LayerMaker, run: Runner, axis: int, shape: Shape, top_k: int
) -> None:
    x = np.random.default_rng(1).integers(0, 3, shape).astype(float)  # many ties
    fields = f"axis: {axis} top_k: {top_k}"
    (index,) = run(make_layer(f'type: "ArgMax" argmax_param {{ {fields} }}', shape), x)
    fields += " out_max_val: true"
    (values,) = run(make_layer(f'type: "ArgMax" argmax_param {{ {fields} }}', shape), x)
    assert index.shape[axis] == values.shape[axis] == top_k
    lines = [np.moveaxis(v, axis, -1).reshape(-1, v.shape[axis]) for v in (x, index, values)]
    for line, chosen, found in zip(*lines, strict=True):
        assert chosen.tolist() == largest(line, top_k)
        assert found.tolist() == [line[int(k)] for k in chosen]


def test_arg_max_of_items_of_one_value(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "ArgMax" argmax_param { out_max_val: true }', (2,))
    (y,) = run(layer, [5, -1])
    assert y.tolist() == [[[0], [5]], [[0], [-1]]]
    with pytest.raises(NetError, match="at least 1 axis"):
        layer.top_shapes(())


def test_arg_max_has_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "ArgMax" argmax_param { out_max_val: true }', (1, 3))
    assert not layer(torch.ones(1, 3, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("top_k: 7", r"less than or equal to the number of classes \(6\), got 7"),
        ("axis: 1 top_k: 4", r"less than or equal to the number of classes \(3\), got 4"),
        ("top_k: 0", "top_k must be > 0"),
        ("axis: 3", "axis 3 does not exist"),
    ],
)
def test_arg_max_refuses(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "ArgMax" argmax_param {{ {fields} }}', (2, 3, 2))


def test_eltwise_accuracy(make_layer: LayerMaker, run: Runner) -> None:
    fields = "eltwise_accuracy_param { top_k: 2 ignore_label: 3 }"
    layer = make_layer(f'type: "EltwiseAccuracy" {fields}', (1, 4, 1, 4), (1, 1, 1, 4))
    x = np.array([[4, 1, 1, 0], [3, 2, 2, 1], [2, 3, 3, 2], [1, 4, 4, 3]], float)
    (accuracy,) = run(layer, x.reshape(1, 4, 1, 4), np.array([1, 1, 2, 3]).reshape(1, 1, 1, 4))
    assert accuracy == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    "targets",
    [[1, 1, 1, -1, -1, 0, 2.5], [1, 1, 1, 1, 1, 1, 1], [-1] * 7, [0, 0.9, -0.9, 0, 0, 0, 0]],
)
def test_multi_label_accuracy(make_layer: LayerMaker, run: Runner, targets: list[float]) -> None:
    x = np.array([0.5, -0.5, 0, 0.25, -0.25, 9, -9])
    layer = make_layer('type: "MultiLabelAccuracy"', (1, 7), (1, 7))
    true_positive = sum(v >= 0 and int(t) > 0 for v, t in zip(x, targets, strict=True))
    true_negative = sum(v < 0 and int(t) < 0 for v, t in zip(x, targets, strict=True))
    positive = sum(int(t) > 0 for t in targets)
    negative = sum(int(t) < 0 for t in targets)
    false_positive = negative - true_negative
    sensitivity = true_positive / max(positive, 1)
    specificity = true_negative / max(negative, 1)
    sure = sensitivity and specificity
    wanted = [
        sensitivity,
        specificity,
        2 / (1 / sensitivity + 1 / specificity) if sure else 0,
        true_positive / max(true_positive + false_positive, 1),
        2 * true_positive / max(2 * true_positive + false_positive + positive - true_positive, 1),
    ]
    (scores,) = run(layer, x.reshape(1, 7), np.array(targets).reshape(1, 7))
    np.testing.assert_allclose(scores.ravel(), wanted, rtol=1e-12)


def test_multi_label_accuracy_refuses(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"a target for each score, got .*\(2, 3\) .*\(2,\)"):
        make_layer('type: "MultiLabelAccuracy"', (2, 3), (2,))
