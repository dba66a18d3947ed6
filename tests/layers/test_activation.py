from __future__ import annotations

from collections.abc import Callable
from math import exp
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Shape, Spread


def tanh(x: float) -> float:
    return (1 - exp(-2 * x)) / (1 + exp(-2 * x))


@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ('type: "ReLU"', lambda x: max(x, 0.0)),
        (
            'type: "ReLU" relu_param { negative_slope: 0.25 }',
            lambda x: max(x, 0.0) + 0.25 * min(x, 0.0),
        ),
        (
            'type: "ReLU" relu_param { negative_slope: -0.5 }',
            lambda x: max(x, 0.0) - 0.5 * min(x, 0.0),
        ),
        ('type: "Sigmoid"', lambda x: 1 / (1 + exp(-x))),
        ('type: "TanH"', tanh),
        ('type: "Dropout"', lambda x: x),
    ],
)
def test_element_by_element(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    text: str,
    formula: Callable[[float], float],
    shape: Shape,
) -> None:
    layer = make_layer(text, shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = np.array([formula(float(v)) for v in x.flat]).reshape(shape)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


@pytest.mark.parametrize("slope", [0.0, 0.25])
def test_relu_at_zero_has_the_gradient_of_the_negative_side(
    make_layer: LayerMaker, slope: float
) -> None:
    layer = make_layer(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', (1,))
    x = torch.zeros(1, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.item() == slope


def test_sigmoid_and_tanh_at_their_ends(make_layer: LayerMaker, run: Runner) -> None:
    ends = np.array([-1000.0, 1000.0])
    assert run(make_layer('type: "Sigmoid"', (2,)), ends)[0].tolist() == [0, 1]
    assert run(make_layer('type: "TanH"', (2,)), ends)[0].tolist() == [-1, 1]


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.8])
def test_dropout_in_training(make_layer: LayerMaker, ratio: float) -> None:
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    layer = make_layer(text, (100, 100), training=True)
    x = torch.full((100, 100), 3.0, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    kept = y.detach() != 0
    # 10000 draws: a standard deviation of at most 0.005.
    assert kept.double().mean().item() == pytest.approx(1 - ratio, abs=0.02)
    scale = 1 / (1 - ratio)
    # One multiplication in single precision.
    np.testing.assert_allclose(y.detach(), np.where(kept, 3 * scale, 0), rtol=1e-6)
    np.testing.assert_allclose(x.grad, np.where(kept, scale, 0), rtol=1e-6)


def test_dropout_follows_the_seed(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Dropout"', (50,), training=True)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(layer(torch.ones(50)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_dropout_ratio_is_a_chance(make_layer: LayerMaker, ratio: float) -> None:
    with pytest.raises(NetError, match=r"dropout_ratio must be in \[0, 1\), got"):
        make_layer(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', (3,))


@pytest.mark.parametrize(
    ("fields", "shape", "axis"),
    [("", (2, 4), 1), ("axis: 2", (2, 2, 3), 2), ("axis: -3", (2, 3, 2, 2), 1), ("", (2, 3, 2), 1)],
)
def test_softmax(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    axis: int,
) -> None:
    layer = make_layer(f'type: "Softmax" softmax_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = np.zeros(shape)
    for at in np.ndindex(*shape):
        line = [exp(x[(*at[:axis], k, *at[axis + 1 :])]) for k in range(shape[axis])]
        wanted[at] = line[at[axis]] / sum(line)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


def test_softmax_of_huge_scores(make_layer: LayerMaker, run: Runner) -> None:
    (y,) = run(make_layer('type: "Softmax"', (1, 3)), np.array([[1e4, 1e4, -1e4]]))
    assert y.tolist() == [[0.5, 0.5, 0.0]]


def test_softmax_axis_has_to_exist(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="axis 2 does not exist"):
        make_layer('type: "Softmax" softmax_param { axis: 2 }', (2, 3))
