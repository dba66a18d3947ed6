from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


def lrn(x: Array, *, across: bool, size: int, alpha: float, beta: float, k: float) -> Array:
    y = np.zeros_like(x)
    reach = (size - 1) // 2
    for n, c, h, w in product(*map(range, x.shape)):
        total = 0.0
        if across:
            for other in range(max(c - reach, 0), min(c + reach + 1, x.shape[1])):
                total += x[n, other, h, w] ** 2
            base = k + alpha / size * total
        else:
            rows = range(max(h - reach, 0), min(h + reach + 1, x.shape[2]))
            columns = range(max(w - reach, 0), min(w + reach + 1, x.shape[3]))
            total = sum(x[n, c, i, j] ** 2 for i, j in product(rows, columns))
            base = 1 + alpha / size**2 * total
        y[n, c, h, w] = x[n, c, h, w] * base**-beta
    return y


@pytest.mark.parametrize("shape", [(2, 6, 2, 3), (1, 2, 5, 4)])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize(
    ("fields", "size", "alpha", "beta", "k"),
    [
        ("", 5, 1.0, 0.75, 1.0),
        ("local_size: 3 alpha: 2 beta: 0.5", 3, 2.0, 0.5, 1.0),
        ("local_size: 1 alpha: 0.5 k: 2", 1, 0.5, 0.75, 2.0),
        ("local_size: 7 beta: 1.5 k: 0.5", 7, 1.0, 1.5, 0.5),
    ],
)
def test_lrn(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    size: int,
    alpha: float,
    beta: float,
    k: float,
    across: bool,
    shape: Shape,
) -> None:
    region = "ACROSS_CHANNELS" if across else "WITHIN_CHANNEL"
    layer = make_layer(f'type: "LRN" lrn_param {{ norm_region: {region} {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = lrn(x, across=across, size=size, alpha=alpha, beta=beta, k=k)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


def mvn(x: Array, *, across: bool, normalize: bool, eps: float) -> Array:
    y = np.zeros_like(x)
    for n in range(x.shape[0]):
        for part in [slice(None)] if across else range(x.shape[1]):
            values = x[n, part]
            mean = sum(float(v) for v in values.flat) / values.size
            deviation = (sum((float(v) - mean) ** 2 for v in values.flat) / values.size) ** 0.5
            y[n, part] = (values - mean) / (deviation + eps if normalize else 1)
    return y


@pytest.mark.parametrize("shape", [(2, 3, 2, 3), (2, 2, 5), (2, 4)])
@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_mvn(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    across: bool,
    normalize: bool,
    shape: Shape,
) -> None:
    if len(shape) == 2 and normalize and not across:
        return  # single values have no deviation; see below
    fields = f"across_channels: {across} normalize_variance: {normalize}".lower()
    layer = make_layer(f'type: "MVN" mvn_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = mvn(x, across=across, normalize=normalize, eps=float(np.float32(1e-9)))
    assert y.shape == (*shape, *(1,) * (4 - len(shape)))
    # Both in double precision.
    np.testing.assert_allclose(y.reshape(shape), wanted, rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


def test_mvn_adds_eps_to_the_deviation(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "MVN" mvn_param { eps: 0.5 }', (1, 1, 1, 4))
    x = torch.tensor([[[[0.0, 2.0, 0.0, 2.0]]]], dtype=torch.float64, requires_grad=True)
    y = layer(x)  # a mean and a deviation of 1
    np.testing.assert_allclose(y.detach().flatten(), np.array([-1, 1, -1, 1]) / 1.5, rtol=1e-12)
    dy = np.array([1.0, 2.0, 4.0, 0.0])
    y.backward(torch.from_numpy(dy).reshape(y.shape))
    assert x.grad is not None
    value = y.detach().flatten().numpy()
    # Caffe's gradient takes 1.5 for the deviation throughout.
    wanted = (dy - dy.mean() - value * (value * dy).mean()) / 1.5
    np.testing.assert_allclose(x.grad.flatten(), wanted, rtol=1e-12)  # double precision


def test_mvn_of_single_values_is_zero(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    (y,) = run(make_layer('type: "MVN"', (2, 4)), spread(2, 4))
    assert not y.any()


@pytest.mark.parametrize("shape", [(2, 3, 2, 2), (2, 4)])
@pytest.mark.parametrize(("fields", "bias"), [("", 1.0), ("bias: 0.25", 0.25)])
def test_grn(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    bias: float,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "GRN" grn_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    for n, c, *at in np.ndindex(*shape):
        norm = (bias + sum(x[n, k, *at] ** 2 for k in range(shape[1]))) ** 0.5
        assert y[n, c, *at] == pytest.approx(x[n, c, *at] / norm, rel=1e-12)  # double precision
    check_gradient(layer, x)


@pytest.mark.parametrize("shape", [(2, 3, 2), (3, 4), (2,)])
def test_l2_normalize(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shape: Shape,
) -> None:
    layer = make_layer('type: "L2Normalize"', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    for n in range(shape[0]):
        norm = (sum(float(v) ** 2 for v in np.ravel(x[n])) + 1e-7) ** 0.5
        np.testing.assert_allclose(y[n], x[n] / norm, rtol=1e-12)  # double precision
    check_gradient(layer, x)
    assert not run(layer, np.zeros(shape))[0].any()


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('type: "LRN" lrn_param { local_size: 4 }', (1, 2, 3, 3), "local_size must be odd, got 4"),
        ('type: "LRN"', (1, 2, 0, 3), r"only the batch may be empty, got .* \(1, 2, 0, 3\)"),
        ('type: "LRN"', (2, 3, 4), r"must have 4 axes, .* got shape \(2, 3, 4\)"),
        ('type: "MVN"', (1, 2, 3, 4, 5), "at most 4 axes"),
        ('type: "GRN"', (3,), "at least 2 axes"),
        ('type: "GRN" grn_param { bias: -1 }', (2, 3), "bias must be >= 0, got -1"),
        ('type: "MVN" mvn_param { eps: -1 }', (1, 2), "eps must be >= 0, got -1"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, shape)


def test_moving_normalize(make_layer: LayerMaker, run: Runner) -> None:
    rng = np.random.default_rng(6)
    layer = make_layer('type: "MovingNormalize" top: "a" top: "b"', (2, 3, 4))
    mean = -1.0
    for _ in range(3):
        x = rng.normal(size=(2, 3, 4))
        norms = [np.sqrt((x[n, :, k] ** 2).sum()) for n in range(2) for k in range(4)]
        new = sum(norms) / 8
        mean = new if mean < 0 else 0.99 * mean + 0.01 * new
        y, seen = run(layer, x)
        np.testing.assert_allclose(y, x / mean)
        assert seen.tolist() == pytest.approx([mean])
    again = layer.again(torch.from_numpy(x))[0].detach()
    np.testing.assert_allclose(again, x / mean)
    bottom = torch.from_numpy(x).requires_grad_()
    (gradient,) = torch.autograd.grad(layer.again(bottom)[0].sum(), bottom)
    np.testing.assert_allclose(gradient, np.full(x.shape, 1 / mean))


@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
def test_lrn_with_pooling_inside(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    region: str,
) -> None:
    x = spread(2, 4, 6, 5)
    options = f"norm_region: {region} local_size: 3"
    pooling = "pooling_param { pool: MAX kernel_size: 3 stride: 2 }"
    fused = make_layer(
        f'type: "LRN" lrn_param {{ {options} fuse_type: FUSED_POOL_MAX {pooling} }}', x.shape
    )
    plain = make_layer(f'type: "LRN" lrn_param {{ {options} }}', x.shape)
    pool = make_layer(f'type: "Pooling" {pooling}', x.shape)
    np.testing.assert_allclose(run(fused, x)[0], run(pool, run(plain, x)[0])[0])
    check_gradient(fused, x)
