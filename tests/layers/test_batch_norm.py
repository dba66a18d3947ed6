from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.layers import Layer
    from moka.types import Shape


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, number by number."""
    mean, variance = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        values = [float(v) for v in x[:, c].ravel()]
        mean[c] = sum(values) / len(values)
        variance[c] = sum((v - mean[c]) ** 2 for v in values) / len(values)
    return mean, variance


def normalized(x: Array, mean: Array, variance: Array, eps: float) -> Array:
    y = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        c = at[1]
        y[at] = (x[at] - mean[c]) / np.sqrt(variance[c] + eps)
    return y


EPS = float(np.float32(1e-5))  # the message holds single precision
FRACTION = float(np.float32(0.999))


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4), (3, 2, 2, 4), (2, 2, 1, 2, 3)])
@pytest.mark.parametrize(("fields", "eps"), [("", EPS), ("eps: 0.5", 0.5)])
def test_batch_norm_of_the_batch(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    eps: float,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "BatchNorm" batch_norm_param {{ {fields} }}', shape, training=True)
    x = spread(*shape)
    (y,) = run(layer, x)
    # Both in double precision, sums of a few dozen terms.
    np.testing.assert_allclose(y, normalized(x, *statistics(x), eps), rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "fraction"), [("", FRACTION), ("moving_average_fraction: 0.5", 0.5)]
)
def test_three_passes_of_batch_norm_add_up(
    make_layer: LayerMaker, run: Runner, spread: Spread, fields: str, fraction: float
) -> None:
    layer = make_layer(
        f'type: "BatchNorm" batch_norm_param {{ {fields} }}', (2, 3, 4), training=True
    )
    assert [w.tolist() for w in layer.weights] == [[0, 0, 0], [0, 0, 0], [0]]
    sums = [np.zeros(3), np.zeros(3), np.zeros(1)]
    for k in range(3):
        x = spread(2, 3, 4) + k
        run(layer, x)
        mean, variance = statistics(x)
        for total, new in zip(sums, (mean, variance * 8 / 7, np.ones(1)), strict=True):
            total *= fraction
            total += new
    for blob, total in zip(layer.weights, sums, strict=True):
        np.testing.assert_allclose(blob.detach(), total, rtol=1e-11)  # both in double precision


def with_sums(layer: Layer, *sums: list[float]) -> None:
    for weight, values in zip(layer.weights, sums, strict=True):
        weight.data[...] = torch.tensor(values)


@pytest.mark.parametrize(("fields", "training"), [("", False), ("use_global_stats: true", True)])
def test_batch_norm_by_global_statistics(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    training: bool,
) -> None:
    text = f'type: "BatchNorm" batch_norm_param {{ {fields} }}'
    layer = make_layer(text, (2, 2, 3), training=training)
    with_sums(layer, [3.0, -1.0], [2.0, 8.0], [4.0])
    x = spread(2, 2, 3)
    (y,) = run(layer, x)
    wanted = normalized(x, np.array([0.75, -0.25]), np.array([0.5, 2.0]), EPS)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
    check_gradient(layer, x)
    assert [w.tolist() for w in layer.weights] == [[3, -1], [2, 8], [4]]


def test_batch_norm_in_testing_can_use_the_batch_and_remembers_it(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    text = 'type: "BatchNorm" batch_norm_param { use_global_stats: false }'
    layer = make_layer(text, (2, 2, 3))
    x = spread(2, 2, 3)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, normalized(x, *statistics(x), EPS), rtol=1e-11, atol=1e-12)
    assert layer.weights[2].tolist() == [1]


def test_sums_of_weight_zero_mean_nothing(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "BatchNorm" batch_norm_param { eps: 0.25 }', (2, 1))
    with_sums(layer, [3.0], [5.0], [0.0])
    assert run(layer, np.array([[1.0], [-2.0]]))[0].tolist() == [[2], [-4]]


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_a_single_value_for_each_channel_becomes_zero(make_layer: LayerMaker, shape: Shape) -> None:
    layer = make_layer('type: "BatchNorm"', shape, training=True)
    x = (torch.rand(shape) * 100).requires_grad_()
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    assert not y.any()
    assert not x.grad.any()
    # The correction of the variance is 1 here.
    assert [w.tolist() for w in layer.weights] == [x.flatten().tolist(), [0, 0, 0], [1]]


@pytest.mark.parametrize(
    ("more", "shape", "message"),
    [
        ("", (4,), r"needs a channel axis, got a bottom of shape \(4,\)"),
        ("param { lr_mult: 1 }", (4, 2), "Cannot configure batch normalization statistics"),
        ("param { lr_mult: 0 } param { }", (4, 2), "Cannot configure batch normalization"),
        ("batch_norm_param { eps: -1 }", (4, 2), "eps must be >= 0, got -1"),
    ],
)
def test_batch_norm_refuses(make_layer: LayerMaker, more: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "BatchNorm" {more}', shape)


def test_statistics_take_no_other_number_of_channels(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BatchNorm"', (2, 3))
    assert layer.top_shapes((4, 3, 5)) == [(4, 3, 5)]
    with pytest.raises(NetError, match=r"statistics for 3 channels, got .* shape \(2, 4\)"):
        layer.top_shapes((2, 4))


def test_an_empty_batch_leaves_the_sums_alone(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BatchNorm"', (0, 3), training=True)
    assert layer(torch.empty(0, 3)).shape == (0, 3)
    assert not any(w.any() for w in layer.weights)
