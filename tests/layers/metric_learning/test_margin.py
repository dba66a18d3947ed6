from __future__ import annotations

from math import acos, cos, floor, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.metric_learning.margin import margin_scores, psi, psi_slope
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


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_the_slope_of_psi(m: int) -> None:
    cosine = torch.linspace(-0.99, 0.99, 57, dtype=torch.double, requires_grad=True)
    (want,) = torch.autograd.grad(psi(cosine, m).sum(), cosine)
    np.testing.assert_allclose(psi_slope(cosine.detach(), m), want, rtol=1e-9)


def slope_as_written(c: float, m: int) -> float:
    """The derivative of psi as polynomials with signs, as SphereFace's code has them."""
    sign = np.sign(c)
    if m == 2:
        return float(4 * sign * c)
    if m == 3:
        return float(np.sign(abs(c) - 0.5) * (12 * c * c - 3))
    return float(sign * np.sign(2 * c * c - 1) * (32 * c**3 - 16 * c))


@pytest.mark.parametrize("margin", MARGINS)
def test_the_gradient_of_sphereface(make_layer: LayerMaker, margin: str) -> None:
    x, labels = problem()
    m = MARGINS.index(margin) + 1
    layer = make_layer(
        f'type: "MarginInnerProduct" margin_inner_product_param {{ num_output: 3 type: {margin}'
        f" base: 0.5 {FILLED} }}",
        x.shape,
        labels.shape,
    ).double()
    w = layer.blobs[0].detach().numpy().copy()
    w /= np.sqrt((w**2).sum(1, keepdims=True))
    given = torch.tensor(x, requires_grad=True)
    rows, dy = x.reshape(9, 4), np.random.default_rng(3).normal(size=(9, 3))
    layer(given, torch.tensor(labels))[0].backward(torch.tensor(dy))
    want = dy @ w
    for i, n in enumerate(labels if m > 1 else []):
        size = sqrt(sum(rows[i] ** 2))
        c = float(rows[i] @ w[n]) / size
        of_w = slope_as_written(c, m)
        of_x = (slow_psi(c, m) - c * of_w) / size
        norm = sqrt(of_w**2 + of_x**2)
        margin_part = (of_w * w[n] + of_x * rows[i]) / norm
        want[i] += dy[i, n] * ((margin_part + 0.5 * w[n]) / 1.5 - w[n])
    assert given.grad is not None
    np.testing.assert_allclose(given.grad.reshape(9, 4), want, rtol=1e-9)
    assert layer.weights[0].grad is not None
    np.testing.assert_allclose(layer.weights[0].grad, dy.T @ rows, rtol=1e-9)


def test_features_of_length_zero(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "MarginInnerProduct" margin_inner_product_param { num_output: 3 type: QUADRUPLE'
        f" {FILLED} }}",
        (2, 4),
        (2,),
    )
    assert np.isfinite(run(layer, np.zeros((2, 4)), np.zeros(2))[0]).all()
    x = torch.zeros(2, 4, requires_grad=True)
    layer.float()(x, torch.zeros(2))[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


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
