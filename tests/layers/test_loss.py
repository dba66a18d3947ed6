from __future__ import annotations

from itertools import product
from math import exp, log, log1p
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Shape, Spread

Array = NDArray[Any]


def softmax_loss(scores: Array, labels: Array, ignored: int | None, mode: str) -> float:
    """Scores (outer, classes, inner), labels (outer, inner)."""
    outer, _, inner = scores.shape
    total, valid = 0.0, 0
    for n, p in product(range(outer), range(inner)):
        label = int(labels[n, p])
        if label == ignored:
            continue
        valid += 1
        line = scores[n, :, p]
        total += log(sum(exp(float(v)) for v in line)) - line[label]
    parts = {"FULL": outer * inner, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}
    return total / max(parts[mode], 1)


@pytest.mark.parametrize("ignored", [None, 1, 255])
@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ("", "VALID"),
        ("normalization: FULL", "FULL"),
        ("normalization: VALID", "VALID"),
        ("normalization: BATCH_SIZE", "BATCH_SIZE"),
        ("normalization: NONE", "NONE"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: true", "VALID"),
        ("normalize: false normalization: FULL", "FULL"),
    ],
)
def test_softmax_with_loss(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    mode: str,
    ignored: int | None,
) -> None:
    more = "" if ignored is None else f"ignore_label: {ignored}"
    layer = make_layer(
        f'type: "SoftmaxWithLoss" loss_param {{ {fields} {more} }}', (3, 4, 2), (3, 2)
    )
    scores, labels = spread(3, 4, 2), np.array([[0, 1], [3, 1], [2, 0]])
    if ignored == 255:
        labels[0, 0] = 255
    (loss,) = run(layer, scores, labels)
    # Both in double precision.
    assert loss == pytest.approx(softmax_loss(scores, labels, ignored, mode), rel=1e-12)
    check_gradient(layer, scores, labels)


@pytest.mark.parametrize(
    ("axis", "scores", "labels", "view"),
    [
        (1, (3, 4), (3,), (3, 4, 1)),
        (1, (3, 4), (3, 1, 1, 1), (3, 4, 1)),
        (-1, (2, 3, 4), (2, 3), (6, 4, 1)),
        (0, (4, 3), (3,), (1, 4, 3)),
        (1, (2, 4, 2, 3), (2, 1, 2, 3), (2, 4, 6)),
    ],
)
def test_softmax_with_loss_along_any_axis(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    axis: int,
    scores: Shape,
    labels: Shape,
    view: Shape,
) -> None:
    text = f'type: "SoftmaxWithLoss" softmax_param {{ axis: {axis} }}'
    layer = make_layer(text, scores, labels)
    x = spread(*scores)
    t = np.arange(int(np.prod(labels))).reshape(labels) % 4
    (loss,) = run(layer, x, t)
    wanted = softmax_loss(x.reshape(view), t.reshape(view[0], view[2]), None, "VALID")
    assert loss == pytest.approx(wanted, rel=1e-12)  # double precision


def test_everything_ignored_gives_no_loss_and_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SoftmaxWithLoss" loss_param { ignore_label: 1 }', (2, 3), (2,))
    x = torch.randn(2, 3, requires_grad=True)
    loss = layer(x, torch.ones(2))
    loss.backward()
    assert x.grad is not None
    assert loss.item() == 0
    assert not x.grad.any()


def test_softmax_with_loss_shows_its_probabilities(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    layer = make_layer('type: "SoftmaxWithLoss" top: "l" top: "p"', (2, 3), (2,))
    x = spread(2, 3)
    loss, probabilities = run(layer, x, np.array([2, 0]))
    assert probabilities.sum(1) == pytest.approx(1.0)
    mean = -(log(probabilities[0, 2]) + log(probabilities[1, 0])) / 2
    assert loss == pytest.approx(mean, rel=1e-12)  # double precision


def test_an_impossible_label_is_floored_but_keeps_its_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SoftmaxWithLoss"', (1, 2), (1,))
    x = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = layer(x, torch.tensor([1.0]))
    loss.backward()
    assert x.grad is not None
    # -log(FLT_MIN); single precision.
    assert loss.item() == pytest.approx(-log(1.1754943508222875e-38), rel=1e-6)
    assert x.grad.tolist() == [[1.0, -1.0]]


def test_a_label_out_of_range_is_an_error_of_the_data(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SoftmaxWithLoss"', (2, 3), (2,))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        layer(torch.zeros(2, 3), torch.tensor([0.0, 3.0]))


def cross_entropy(x: Array, target: Array, ignored: int | None, mode: str) -> float:
    total, valid = 0.0, 0
    for score, t in zip(x.flat, target.flat, strict=True):
        if ignored is not None and int(t) == ignored:
            continue
        valid += 1
        total += log1p(exp(-abs(score))) + max(score, 0.0) - score * t
    parts = {"FULL": x.size, "VALID": valid, "BATCH_SIZE": x.shape[0], "NONE": 1}
    return total / max(parts[mode], 1)


@pytest.mark.parametrize("ignored", [None, 0, 1, -1])
@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ("", "BATCH_SIZE"),
        ("normalization: FULL", "FULL"),
        ("normalization: VALID", "VALID"),
        ("normalization: NONE", "NONE"),
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
    ],
)
def test_sigmoid_cross_entropy(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    mode: str,
    ignored: int | None,
) -> None:
    more = "" if ignored is None else f"ignore_label: {ignored}"
    text = f'type: "SigmoidCrossEntropyLoss" loss_param {{ {fields} {more} }}'
    layer = make_layer(text, (2, 3), (2, 3))
    x = spread(2, 3) * 10
    target = np.array([[0, 1, 0.25], [1, 0.75, -1 if ignored == -1 else 0]])
    (loss,) = run(layer, x, target)
    # Both in double precision.
    assert loss == pytest.approx(cross_entropy(x, target, ignored, mode), rel=1e-12)
    check_gradient(layer, x, target)


def test_sigmoid_cross_entropy_of_huge_scores(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "SigmoidCrossEntropyLoss"', (1, 2), (1, 2))
    (loss,) = run(layer, np.array([[1000.0, -1000.0]]), np.array([[0.0, 1.0]]))
    assert loss == 2000


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 4)), ((2, 2, 3), (2, 6)), ((2, 1), (2,))])
def test_euclidean(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    a: Shape,
    b: Shape,
) -> None:
    layer = make_layer('type: "EuclideanLoss"', a, b)
    left, right = spread(*a), spread(*b)
    (loss,) = run(layer, left, right)
    squares = [(p - q) ** 2 for p, q in zip(left.flat, right.flat, strict=True)]
    assert loss == pytest.approx(sum(squares) / (2 * a[0]), rel=1e-12)  # double precision
    check_gradient(layer, left, right)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "SoftmaxWithLoss"', [(2, 3), (3,)], "Number of labels must match number of pred"),
        ('type: "SoftmaxWithLoss"', [(2, 3, 4), (2,)], "need 8 labels, got shape 2"),
        ('type: "SoftmaxWithLoss" softmax_param { axis: 2 }', [(2, 3), (2,)], "axis 2 does not"),
        ('type: "SigmoidCrossEntropyLoss"', [(2, 3), (2, 2)], "must have the same count"),
        ('type: "EuclideanLoss"', [(2, 3), (3, 2)], "must have the same dimension"),
        ('type: "EuclideanLoss"', [(2, 3), (2, 2)], "must have the same dimension"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)
