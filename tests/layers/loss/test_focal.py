from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

OPTIONS = [
    ("", 2, 1, -1),
    ("type: ONEADDP", 2, 1, 1),
    ("type: LINEAR gamma: 1 beta: 3", 1, 1, -1),
    ("gamma: 0.5 alpha: 1.25", 0.5, 1.25, -1),
    ("gamma: 0", 0, 1, -1),
]


@pytest.mark.parametrize(("fields", "gamma", "alpha", "sign"), OPTIONS)
@pytest.mark.parametrize("ignored", [None, 1])
def test_values(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    fields: str,
    gamma: float,
    alpha: float,
    sign: int,
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
            total -= (alpha + sign * p) ** gamma * log(p)
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
