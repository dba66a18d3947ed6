from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

OPTIONS = [
    # fields, the factor of (start + sign p) ^ gamma
    ("", 1, 1, -1, 2),
    ("type: ONEADDP", 1, 1, 1, 2),
    ("type: ONEADDP alpha: 0.5", 1, 0.5, 1, 2),
    ("type: LINEAR gamma: 1 beta: 3", 1, 1, -1, 1),
    ("gamma: 0.5 alpha: 1.25", 1, 1.25, -1, 0.5),
    ("gamma: 0", 1, 1, -1, 0),
    ("alpha: 0.25 gamma: 2", 0.25, 1, -1, 2),
    ("alpha: 0.75 gamma: 1.5 type: LINEAR", 0.75, 1, -1, 1.5),
]


@pytest.mark.parametrize(("fields", "factor", "start", "sign", "gamma"), OPTIONS)
@pytest.mark.parametrize("ignored", [None, 1])
def test_values(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    fields: str,
    factor: float,
    start: float,
    sign: int,
    gamma: float,
    ignored: int | None,
) -> None:
    x, labels = spread(2, 3, 2), np.array([[0, 1], [2, 1]])
    loss = f"loss_param {{ ignore_label: {ignored} }}" if ignored is not None else ""
    layer = make_layer(
        f'type: "FocalLoss" focal_loss_param {{ {fields} }} {loss} top: "l" top: "p"',
        x.shape,
        labels.shape,
    )
    total, count = 0.0, 0
    for n, k in np.ndindex(2, 2):
        label = labels[n, k]
        p = exp(x[n, label, k]) / sum(exp(v) for v in x[n, :, k])
        if label != ignored:
            total -= factor * (start + sign * p) ** gamma * log(p)
            count += 1
    have, probabilities = run(layer, x, labels)
    assert have == pytest.approx(total / count)
    np.testing.assert_allclose(probabilities, np.exp(x) / np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize("fields", [option[0] for option in OPTIONS])
def test_gradients(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread, fields: str
) -> None:
    layer = make_layer(f'type: "FocalLoss" focal_loss_param {{ {fields} }}', (4, 3), (4,))
    check_gradient(layer, spread(4, 3), np.array([0, 1, 2, 1]))


def test_a_certain_label(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "FocalLoss" focal_loss_param { gamma: 0.5 }', (2, 2), (2,))
    x = np.array([[800.0, 0], [800, 0]])
    assert run(layer, x, np.array([0, 0]))[0] == 0
    assert 80 < run(layer, x, np.array([0, 1]))[0] * 2 < 90  # -log of the smallest float


def test_bad_options(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="alpha must be > 0, got 0"):
        make_layer('type: "FocalLoss" focal_loss_param { alpha: 0 }', (2, 2), (2,))
    with pytest.raises(NetError, match="Number of labels must match number of predictions"):
        make_layer('type: "FocalLoss"', (2, 2), (3,))


SOFTMAX_FOCAL = [
    # type, message, fields, alpha, gamma
    ("SoftmaxFocalLoss", "focal_loss_param", "", 0.25, 2),
    ("SoftmaxFocalLoss", "focal_loss_param", "alpha: 2 gamma: 1.5 type: ONEADDP", 2, 1.5),
    ("SoftmaxWithFocalLoss", "softmax_focal_loss_param", "", 0.25, 2),
    ("SoftmaxWithFocalLoss", "softmax_focal_loss_param", "alpha: 1 gamma: 1", 1, 1),
]


@pytest.mark.parametrize(("kind", "message", "fields", "alpha", "gamma"), SOFTMAX_FOCAL)
def test_softmax_focal_loss(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    message: str,
    fields: str,
    alpha: float,
    gamma: float,
) -> None:
    x, labels = spread(3, 4), np.array([0, 3, 1])
    layer = make_layer(f'type: "{kind}" {message} {{ {fields} }}', x.shape, labels.shape)
    p = (np.exp(x) / np.exp(x).sum(1, keepdims=True))[range(3), labels]
    assert run(layer, x, labels)[0] == pytest.approx(np.mean(-alpha * (1 - p) ** gamma * np.log(p)))
    check_gradient(layer, x, labels)


def test_softmax_focal_loss_of_one_class_stays_one(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "SoftmaxFocalLoss"', (2, 1), (2,))
    assert run(layer, np.array([[0.5], [-1.0]]), np.zeros(2))[0] == 0


@pytest.mark.parametrize("axis", [1, -1])
def test_an_axis_of_its_own(make_layer: LayerMaker, run: Runner, spread: Spread, axis: int) -> None:
    x, labels = spread(2, 3, 3), np.array([[0, 1, 2], [2, 1, 1]])
    losses = [
        run(make_layer(f'type: "FocalLoss" {m} {{ axis: {axis} }}', (2, 3, 3), (2, 3)), x, labels)
        for m in ("focal_loss_param", "softmax_param")
    ]
    assert losses[0] == losses[1]


BINARY = [
    # fields, loss_param, alpha, gamma, divisor (None: those that count)
    ("", "", 0.25, 2, 2),
    ("alpha: 1.5 gamma: 0.5", "normalize: true", 1.5, 0.5, None),
    ("gamma: 0 type: ONEADDP", "normalization: FULL normalize: false", 0.25, 0, 6),
    ("alpha: 0.75", "normalize: false", 0.75, 2, 2),
]


@pytest.mark.parametrize(("fields", "options", "alpha", "gamma", "divisor"), BINARY)
@pytest.mark.parametrize("ignored", [None, -1])
def test_a_label_for_each_score(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    options: str,
    alpha: float,
    gamma: float,
    divisor: int | None,
    ignored: int | None,
) -> None:
    x, target = spread(2, 3), np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    if ignored is None:
        target[0, 2] = 0.5  # a fraction counts as any other than 1
    else:
        options += f" ignore_label: {ignored}"
    layer = make_layer(
        f'type: "FocalLoss" focal_loss_param {{ {fields} }} loss_param {{ {options} }}',
        x.shape,
        target.shape,
    )
    total, count = 0.0, 0
    for score, t in zip(x.flat, target.flat, strict=True):
        if t == ignored:
            continue
        s = 1 / (1 + exp(-score))
        p = s if t == 1 else 1 - s
        total -= alpha * (1 - p) ** gamma * (t * log(s) + (1 - t) * log(1 - s))
        count += 1
    assert run(layer, x, target)[0] == pytest.approx(total / (divisor or count))
    check_gradient(layer, x, target)


def test_one_class_is_a_label_for_each_score(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "FocalLoss"', (2, 1), (2,))
    s = 1 / (1 + exp(-0.5))
    want = -0.25 * ((1 - s) ** 2 * log(s) + s**2 * log(1 - s)) / 2
    assert run(layer, np.array([[0.5], [0.5]]), np.array([1, 0]))[0] == pytest.approx(want)
    with pytest.raises(NetError, match="has one top where there is a label for each score"):
        make_layer('type: "FocalLoss" top: "l" top: "p"', (2, 3), (2, 3))
