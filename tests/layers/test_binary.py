from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers import Layer
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner, Spread

FILLER = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
KINDS = {
    "BinaryConvolution": f"convolution_param {{ num_output: 3 kernel_size: 2 group: 1 {FILLER} }}"
    " binary_convolution_param",
    "BinaryInnerProduct": f"inner_product_param {{ num_output: 3 {FILLER} }}"
    " binary_inner_product_param",
}
X = (2, 2, 3, 3)


def gradients(layer: Layer, x: Array, top: Array) -> list[Array]:
    """The gradients of the bottom and of the parameters for this gradient of the top."""
    leaf = torch.from_numpy(x).requires_grad_()
    y: Any = layer(leaf)
    (y if isinstance(y, torch.Tensor) else y[0]).backward(torch.from_numpy(top))
    grads = [t.grad for t in (leaf, *layer.weights)]
    return [g.numpy() for g in grads if g is not None]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fields", ["", "use_alpha: true", "use_binarization: false"])
def test_weights_are_replaced_by_their_signs(
    make_layer: LayerMaker, run: Runner, spread: Spread, kind: str, fields: str
) -> None:
    """A plain layer with the replaced weights computes the same, and has the same gradients."""
    layer = make_layer(f'type: "{kind}" {KINDS[kind]} {{ {fields} }}', X).double()
    with torch.no_grad():
        layer.weights[0].view(-1)[0] = 0  # which counts as positive
    weight = layer.weights[0].detach().numpy()
    wanted = weight.copy()
    if "binarization" not in fields:
        wanted = np.where(weight >= 0, 1.0, -1.0)
        if fields:
            scale = np.abs(weight).reshape(3, -1).mean(1)
            wanted *= scale.reshape(-1, *(1,) * (weight.ndim - 1))
    name = kind.removeprefix("Binary")
    plain = make_layer(f'type: "{name}" {KINDS[kind].rsplit(maxsplit=1)[0]}', X).double()
    plain.weights[0].data.copy_(torch.from_numpy(wanted))
    plain.weights[1].data.copy_(layer.weights[1].data)
    x = spread(*X)
    (y,) = run(plain, x)
    np.testing.assert_allclose(run(layer, x)[0], y, rtol=1e-12)
    top = np.random.default_rng(5).standard_normal(y.shape)
    for found, other in zip(gradients(layer, x, top), gradients(plain, x, top), strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("option", ["transpose", "relu", "normalize"])
def test_options_of_other_products(make_layer: LayerMaker, option: str) -> None:
    text = f'type: "BinaryInnerProduct" inner_product_param {{ num_output: 2 {option}: true }}'
    with pytest.raises(NetError, match=f"{option}: true is an option that this layer"):
        make_layer(text, (2, 3))


CENTERS = (0.5, 1.0, 2.5)


def quantized(x: Array, slope: float) -> Array:
    """Value by value, as the fork looks for the first threshold."""
    y = np.full_like(x, -slope)
    for i, v in np.ndenumerate(x):
        if v > 0:
            y[i] = CENTERS[0] if v <= 0.75 else CENTERS[1] if v <= 1.75 else CENTERS[2]
    return y


@pytest.mark.parametrize("slope", [0, 0.25])
@pytest.mark.parametrize("limit", [0, 1.5])
@pytest.mark.parametrize("backward", ["relu", "hard_tanh"])
@pytest.mark.parametrize("forward", ["hwgq", "sign", "hard_tanh", "relu"])
def test_quant(
    make_layer: LayerMaker, run: Runner, forward: str, backward: str, limit: float, slope: float
) -> None:
    fields = f'forward_func: "{forward}" backward_func: "{backward}" clip_thr: {limit}'
    text = f"quant_param {{ {fields} negative_slope: {slope} centers: {list(CENTERS)} }}"
    x = np.array([-2, -1.5, -0.5, 0, 0.2, 0.75, 0.8, 1.5, 1.75, 1.8, 9])
    layer = make_layer(f'type: "Quant" {text}', x.shape)
    values = {
        "hwgq": quantized(x, slope),
        "sign": np.where(x >= 0, 1, -1),
        "hard_tanh": np.clip(x, -1, 1),
        "relu": np.where(x > 0, x, slope * x),
    }
    np.testing.assert_allclose(run(layer, x)[0], values[forward], rtol=1e-12)
    most = limit or np.inf
    slopes = {
        "relu": np.where(x > 0, 1, slope) * (x <= most),
        "hard_tanh": np.abs(x) <= most,
    }
    (grad,) = gradients(layer, x, np.full_like(x, 3))
    np.testing.assert_allclose(grad, 3 * slopes[backward], rtol=1e-12)


def test_the_first_center_that_fits(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "Quant" quant_param { centers: [2, 4, 1, 8] }', (5,))
    (y,) = run(layer, np.array([2.9, 3.0, 3.1, 4.4, 4.6]))  # the middles are 3, 2.5 and 4.5
    assert y.tolist() == [2, 2, 1, 1, 8]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("", "forward_func hwgq needs centers"),
        ("centers: 0", "centers must be > 0, got 0"),
        ('forward_func: "tanh"', 'forward_func must be one of hwgq, .* got "tanh"'),
        ('centers: 1 backward_func: "sign"', 'backward_func must be one of relu, .* got "sign"'),
    ],
)
def test_quant_refuses(make_layer: LayerMaker, fields: str, told: str) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(f'type: "Quant" quant_param {{ {fields} }}', (2,))
