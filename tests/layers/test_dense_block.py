from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers import Layer
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

GAUSSIAN = '{ type: "gaussian" }'
FIELDS = (
    f"numTransition: 2 growthRate: 2 moving_average_fraction: 0.5 Filter_Filler {GAUSSIAN}"
    f" BN_Scaler_Filler {GAUSSIAN} BN_Bias_Filler {GAUSSIAN}"
)
PLAIN = ["filter", "scale", "bias", "mean", "variance"]


def block(make_layer: LayerMaker, fields: str = "", *, training: bool = False) -> Layer:
    return make_layer(
        f'type: "DenseBlock" denseblock_param {{ {FIELDS} {fields} }}',
        (3, 4, 5, 6),
        training=training,
    )


def convolve(x: Array, weight: Array) -> Array:
    side = weight.shape[2]
    pad = side // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    height, width = x.shape[2] - side + 1, x.shape[3] - side + 1
    y = np.zeros((len(x), len(weight), height, width))
    for i in range(side):
        for j in range(side):
            part = x[:, :, i : i + height, j : j + width]
            y += np.einsum("nchw,mc->nmhw", part, weight[:, :, i, j])
    return y


def slow_block(layer: Layer, x: Array, *, training: bool) -> Array:
    """By the names of the blobs."""
    blobs = {
        name: weight.detach().numpy().copy()
        for name, weight in zip(layer.parameter_names, layer.weights, strict=True)
    }
    narrow = "bottleneck_filter0" in blobs
    factor = 0 if blobs["ones"][0] == 0 else 1 / blobs["ones"][0]

    def normalized(y: Array, prefix: str, i: int) -> Array:
        scale, bias, mean, variance = (blobs[f"{prefix}{kind}{i}"] for kind in PLAIN[1:])
        mean, variance = mean * factor, variance * factor
        if training:
            mean = y.mean((0, 2, 3), keepdims=True)
            variance = y.var((0, 2, 3), keepdims=True)
        return np.maximum((y - mean) / np.sqrt(variance + 1e-5) * scale + bias, 0)

    for i in range(2):
        y = normalized(x, "", i)
        if narrow:
            y = normalized(convolve(y, blobs[f"bottleneck_filter{i}"]), "bottleneck_", i)
        x = np.concatenate([x, convolve(y, blobs[f"filter{i}"])], 1)
    return x


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(0).normal(size=(3, 4, 5, 6))


@pytest.mark.parametrize("bottleneck", ["", "use_BC: true"])
def test_training_and_testing(
    make_layer: LayerMaker, run: Runner, bottleneck: str, x: Array
) -> None:
    layer = block(make_layer, bottleneck, training=True).double()
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, slow_block(layer, x, training=True), atol=1e-9)
    run(layer, x * 2 + 1)
    layer.eval()
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, slow_block(layer, x, training=False), atol=1e-9)


def test_sums_of_statistics(make_layer: LayerMaker, run: Runner, x: Array) -> None:
    layer = block(make_layer, training=True)
    blobs = dict(zip(layer.parameter_names, layer.weights, strict=True))
    assert blobs["variance0"].flatten().tolist() == [1] * 4
    run(layer, x)
    run(layer, 3 * x)
    mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    blobs = dict(zip(layer.parameter_names, layer.weights, strict=True))
    np.testing.assert_allclose(blobs["mean0"].detach().flatten(), 0.5 * mean + 3 * mean, rtol=1e-6)
    np.testing.assert_allclose(
        blobs["variance0"].detach().flatten(), 0.25 + 0.5 * variance + 9 * variance, rtol=1e-6
    )
    assert blobs["ones"].item() == 1.5
    before = [weight.detach().clone() for weight in layer.weights]
    layer.again(torch.from_numpy(x))
    for old, new in zip(before, layer.weights, strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("bottleneck", ["", "use_BC: true"])
def test_blobs(make_layer: LayerMaker, bottleneck: str) -> None:
    layer = block(make_layer, bottleneck)
    shapes = [tuple(weight.shape) for weight in layer.weights]
    of_input = [(1, 4, 1, 1), (1, 6, 1, 1)]
    if bottleneck:
        filters, others = [(2, 8, 3, 3)] * 2, [(1, 8, 1, 1)] * 2
        more = [(8, 4, 1, 1), (8, 6, 1, 1), *others * 4]
        assert layer.state_blobs == (6, 7, 8, 9, 16, 17, 18, 19, 20)
    else:
        filters, more = [(2, 4, 3, 3), (2, 6, 3, 3)], []
        assert layer.state_blobs == (6, 7, 8, 9, 10)
    assert shapes == [*filters, *of_input * 4, *more, (1,)]
    assert layer.first_top_shapes == [(3, 8, 5, 6)]


@pytest.mark.parametrize("bottleneck", ["", "use_BC: true"])
@pytest.mark.parametrize("training", [True, False])
def test_gradient(make_layer: LayerMaker, bottleneck: str, training: bool, x: Array) -> None:
    layer = block(make_layer, bottleneck, training=training).double()
    layer.weights[layer.state_blobs[-1]].data.fill_(1)
    learned = [w for k, w in enumerate(layer.weights) if k not in layer.state_blobs]
    small = torch.from_numpy(x[:2, :, :2, :2]).requires_grad_()

    def function(value: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        y = layer.again(value)
        assert isinstance(y, torch.Tensor)
        return y

    assert torch.autograd.gradcheck(function, (small, *learned))


def test_dropout_drops_what_a_step_adds(make_layer: LayerMaker, x: Array) -> None:
    fields = "use_dropout: true dropout_amount: 0.5"
    layer = block(make_layer, fields, training=True)
    y = layer(torch.from_numpy(x).float())
    np.testing.assert_allclose(y[:, :4].detach(), x, rtol=1e-6)
    assert 0.3 < (y[:, 4:] == 0).float().mean() < 0.7
    layer.eval()
    assert (layer(torch.from_numpy(x).float())[:, 4:] != 0).all()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("initChannel: 5", "initChannel must be the 4 channels of the bottom, got 5"),
        ("pad_h: 0", "its window is 3 x 3 with stride 1 and pad 1"),
        ("filter_W: 5", "its window is 3 x 3 with stride 1 and pad 1"),
        ("dropout_amount: -1", "dropout_amount must be >= 0, got -1"),
    ],
)
def test_bad_input(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        block(make_layer, fields)


def test_too_many_steps(make_layer: LayerMaker) -> None:
    text = 'type: "DenseBlock" denseblock_param { numTransition: 2147483647 growthRate: 1 }'
    with pytest.raises(NetError, match=r"numTransition must be 1 to 4096, got 2\.14748e\+09"):
        make_layer(text, (3, 4, 5, 6))
