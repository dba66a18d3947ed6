from __future__ import annotations

from math import acos, cos, floor, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.metric_learning.margin import margin_scores, psi
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

MARGINS = ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"]
FILLED = 'weight_filler { type: "gaussian" }'


def slow_psi(cosine: float, m: int) -> float:
    theta = acos(cosine)
    k = floor(m * theta / pi)
    return float((-1) ** k * cos(m * theta) - 2 * k)


def slow_scores(x: Array, w: Array, labels: Array, m: int, blend: float) -> Array:
    y = np.zeros((len(x), len(w)))
    for i, n in np.ndindex(*y.shape):
        y[i, n] = sum(a * b for a, b in zip(x[i], w[n], strict=True))
        if n == labels[i] and m > 1:
            size = sqrt(sum(x[i] ** 2)) * sqrt(sum(w[n] ** 2))
            y[i, n] = (blend * y[i, n] + size * slow_psi(float(y[i, n] / size), m)) / (1 + blend)
    return y


def problem() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(9, 2, 2)), rng.integers(0, 3, 9)


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_psi_falls_with_the_angle(m: int) -> None:
    theta = np.linspace(0.01, pi - 0.01, 57)
    have = psi(torch.tensor(np.cos(theta)), m).tolist()
    assert have == pytest.approx([slow_psi(float(np.cos(t)), m) for t in theta])
    assert all(np.diff(have) < 0)


@pytest.mark.parametrize("margin", MARGINS)
def test_margin_inner_product(make_layer: LayerMaker, run: Runner, margin: str) -> None:
    x, labels = problem()
    layer = make_layer(
        f'type: "MarginInnerProduct" top: "y" top: "lambda" margin_inner_product_param {{'
        f" num_output: 3 type: {margin} base: 10 gamma: 0.5 power: 2 iteration: 3 lambda_min: 1.2"
        f" {FILLED} }}",
        x.shape,
        labels.shape,
    ).double()
    layer.blobs[0].data.mul_(7)
    given = layer.blobs[0].detach().numpy()
    w = given / np.sqrt((given**2).sum(1, keepdims=True))
    blends = []
    for t in (4, 5, 6):
        blend = max(1.2, 10 * (1 + 0.5 * t) ** -2)
        y, have = run(layer, x, labels)
        want = slow_scores(x.reshape(9, 4), w, labels, MARGINS.index(margin) + 1, blend)
        np.testing.assert_allclose(y, want)
        np.testing.assert_allclose(layer.blobs[0].detach().numpy(), w)
        assert have.tolist() == pytest.approx([blend])
        blends.append(blend)
    assert blends[0] == pytest.approx(120 / 108 if 10 / 9 > 1.2 else 1.2)
    bottoms = [torch.tensor(x), torch.tensor(labels)]
    np.testing.assert_allclose(layer.again(*bottoms)[0].detach(), y)


@pytest.mark.parametrize("margin", MARGINS)
def test_large_margin_inner_product(make_layer: LayerMaker, run: Runner, margin: str) -> None:
    x, labels = problem()
    text = 'type: "LargeMarginInnerProduct" largemargin_inner_product_param {'
    layer = make_layer(
        f"{text} num_output: 3 type: {margin} base: 2 {FILLED} }}", x.shape, labels.shape
    ).double()
    w = np.random.default_rng(1).normal(size=(3, 4))
    layer.blobs[0].data.copy_(torch.tensor(w))
    want = slow_scores(x.reshape(9, 4), w, labels, MARGINS.index(margin) + 1, 2)
    np.testing.assert_allclose(run(layer, x, labels)[0], want)
    np.testing.assert_array_equal(layer.blobs[0].detach(), w)
    other = make_layer(f"{text} type: {margin} base: 2 }}", x.shape, labels.shape, (3, 2, 2))
    assert not other.blobs
    np.testing.assert_allclose(run(other, x, labels, w.reshape(3, 2, 2))[0], want)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_gradients(m: int) -> None:
    rng = np.random.default_rng(4)
    x = torch.tensor(rng.normal(size=(5, 3)), requires_grad=True)
    w = torch.tensor(rng.normal(size=(4, 3)), requires_grad=True)
    label = torch.tensor([0, 3, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda x, w: margin_scores(x, w, label, m, 0.7), (x, w))


def test_the_gradient_goes_through_the_length_of_the_weights(make_layer: LayerMaker) -> None:
    x, labels = (torch.tensor(v) for v in problem())
    layer = make_layer(
        f'type: "MarginInnerProduct" margin_inner_product_param {{ num_output: 3 {FILLED} }}',
        tuple(x.shape),
        tuple(labels.shape),
    ).double()
    layer(x, labels)[0].square().sum().backward()
    weight = layer.weights[0]
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0.1
    assert torch.allclose((weight.grad * weight).sum(1), torch.zeros(3, dtype=torch.double))


def test_features_of_length_zero(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "MarginInnerProduct" margin_inner_product_param { num_output: 3 type: QUADRUPLE'
        f" {FILLED} }}",
        (2, 4),
        (2,),
    )
    assert np.isfinite(run(layer, np.zeros((2, 4)), np.zeros(2))[0]).all()


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("MarginInnerProduct", [(2, 4), (2,)], "num_output is missing"),
        ("LargeMarginInnerProduct", [(2, 4), (2,)], "num_output is missing"),
        ("LargeMarginInnerProduct", [(2, 4), (2,), (3, 5)], "4 values a class, got shape 3 5"),
        (
            "MarginInnerProduct margin_inner_product_param { num_output: 2 }",
            [(2, 4), (3,)],
            "Number of labels must match number of items: 2",
        ),
        (
            "MarginInnerProduct margin_inner_product_param { num_output: 3 gamma: -1 }",
            [(2, 4), (2,)],
            "gamma",
        ),
        (
            "MarginInnerProduct margin_inner_product_param { num_output: 3 power: -9 }",
            [(2, 4), (2,)],
            "power",
        ),
    ],
)
def test_bad_options(make_layer: LayerMaker, text: str, shapes: list[Any], message: str) -> None:
    kind, _, fields = text.partition(" ")
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "{kind}" {fields}', *shapes)


def test_a_label_that_is_no_class(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        f'type: "MarginInnerProduct" margin_inner_product_param {{ num_output: 3 {FILLED} }}',
        (2, 4),
        (2,),
    )
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, np.ones((2, 4)), np.array([0, 3]))
