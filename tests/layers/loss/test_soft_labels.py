from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 2, 3)])
@pytest.mark.parametrize("zero", [-1, 0, 2])
@pytest.mark.parametrize("weights", [[], [1.0, 2.0, 0.5, 0.0]])
def test_values_and_gradient(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    shape: Shape,
    zero: int,
    weights: list[float],
) -> None:
    x, t = spread(*shape), np.abs(spread(*shape))
    t /= 1.5 * t.sum(1, keepdims=True)  # which do not add up to 1
    fields = " ".join(f"weights: {w}" for w in weights) + f" zero_channel: {zero}"
    text = f'type: "SoftmaxCrossEntropyLoss" softmax_cross_entropy_loss_param {{ {fields} }}'
    layer = make_layer(text, shape, shape)
    scores = x.copy()
    if zero >= 0:
        scores[:, zero] = 0
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wide = np.reshape(weights or [1.0] * 4, (-1, *(1,) * (len(shape) - 2)))
    (loss,) = run(layer, x, t)
    assert loss == pytest.approx(-(wide * t * np.log(p)).sum() / shape[0], rel=1e-12)
    leaf = torch.from_numpy(x).requires_grad_()
    layer(leaf, torch.from_numpy(t)).backward()
    wanted = (p - t) / shape[0] * (wide if zero < 0 else 1)
    if zero >= 0:
        wanted[:, zero] = 0
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad, wanted, rtol=1e-12, atol=1e-15)


def test_probabilities_are_floored(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "SoftmaxCrossEntropyLoss"', (1, 2), (1, 2))
    (loss,) = run(layer, np.array([[200.0, 0]]), np.array([[0.0, 1]]))
    assert loss == pytest.approx(-np.log(1e-20))


@pytest.mark.parametrize(
    ("fields", "target", "told"),
    [
        ("", (2, 4), "the scores and their targets have different shapes"),
        ("weights: 1", (2, 3), "weights must be given once for each of 3 channels, got 1"),
        ("zero_channel: 3", (2, 3), "zero_channel must be below 3, got 3"),
    ],
)
def test_refusals(make_layer: LayerMaker, fields: str, target: Shape, told: str) -> None:
    text = f'type: "SoftmaxCrossEntropyLoss" softmax_cross_entropy_loss_param {{ {fields} }}'
    with pytest.raises(NetError, match=told):
        make_layer(text, (2, 3), target)
