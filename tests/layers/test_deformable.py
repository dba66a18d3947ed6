from __future__ import annotations

from math import floor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.layers.base import Layer
    from moka.types import Array, Shape

FILLED = 'weight_filler { type: "gaussian" std: 1 } bias_filler { type: "uniform" }'
FIRST = f'type: "DeformableConvolution" deformable_convolution_param {{ %s {FILLED} }}'
SECOND = (
    'type: "ModulatedDeformableConvolution"'
    f" modulated_deformable_convolution_param {{ %s {FILLED} }}"
)


def value_of_the_first(image: Array, y: float, x: float) -> float:
    """A value between pixels: the last row and column go on, outside there is nothing."""
    height, width = image.shape
    if not (0 <= y < height and 0 <= x < width):
        return 0.0
    top, left = floor(y), floor(x)
    down, right = min(top + 1, height - 1), min(left + 1, width - 1)
    v, u = y - top, x - left
    upper = image[top, left] * (1 - u) + image[top, right] * u
    lower = image[down, left] * (1 - u) + image[down, right] * u
    return float(upper * (1 - v) + lower * v)


def value_of_the_second(image: Array, y: float, x: float) -> float:
    """A value between pixels, with zeros around the image."""
    height, width = image.shape
    total = 0.0
    for row in (floor(y), floor(y) + 1):
        for column in (floor(x), floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                total += image[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def slow(layer: Layer, x: Array, offsets: Array, mask: Array | None, geometry: Shape) -> Array:
    kernel_h, kernel_w, stride, pad, dilation, group, deformable = geometry
    weight, bias = (b.detach().numpy() for b in layer.blobs)
    n, c = x.shape[:2]
    out_h, out_w = offsets.shape[2:]
    top = np.zeros((n, len(weight), out_h, out_w))
    take = value_of_the_first if mask is None else value_of_the_second
    for item, m, i, j in np.ndindex(*top.shape):
        total = bias[m]
        for inner, a, b in np.ndindex(c // group, kernel_h, kernel_w):
            channel = m // (len(weight) // group) * (c // group) + inner
            which = channel // (c // deformable)
            k = which * kernel_h * kernel_w + a * kernel_w + b
            y = i * stride - pad + a * dilation + offsets[item, 2 * k, i, j]
            z = j * stride - pad + b * dilation + offsets[item, 2 * k + 1, i, j]
            factor = 1 if mask is None else mask[item, k, i, j]
            total += weight[m, inner, a, b] * factor * take(x[item, channel], y, z)
        top[item, m, i, j] = total
    return top


CASES = [
    ("num_output: 3 kernel_size: 3", (3, 3, 1, 0, 1, 1, 1)),
    ("num_output: 4 kernel_h: 2 kernel_w: 3 stride: 2 pad: 1", (2, 3, 2, 1, 1, 1, 1)),
    ("num_output: 4 kernel_size: 2 pad: 2 dilation: 2 group: 2", (2, 2, 1, 2, 2, 2, 1)),
    ("num_output: 2 kernel_size: 2 deformable_group: 2", (2, 2, 1, 0, 1, 1, 2)),
    ("num_output: 4 kernel_size: 1 group: 4 deformable_group: 4", (1, 1, 1, 0, 1, 4, 4)),
]


@pytest.mark.parametrize("text", [FIRST, SECOND])
@pytest.mark.parametrize(("options", "geometry"), CASES)
def test_values_and_gradient(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    text: str,
    options: str,
    geometry: Shape,
) -> None:
    x = spread(2, 4, 5, 6)
    kernel_h, kernel_w, stride, pad, dilation, _, deformable = geometry
    out = [
        (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
        for size, kernel in ((5, kernel_h), (6, kernel_w))
    ]
    places = deformable * kernel_h * kernel_w
    rng = np.random.default_rng(1)
    # Between pixels, so that no step of the finite differences crosses one; some lie outside.
    offsets = rng.integers(-3, 4, (2, 2 * places, *out)) + rng.uniform(0.2, 0.8)
    mask = rng.uniform(0.2, 1, (2, places, *out)) if text is SECOND else None
    bottoms = [x, offsets, *([] if mask is None else [mask])]
    layer = make_layer(text % options, *(b.shape for b in bottoms))
    (top,) = run(layer, *bottoms)
    np.testing.assert_allclose(top, slow(layer, x, offsets, mask, geometry), atol=1e-11)
    check_gradient(layer, *bottoms)


def test_without_offsets_it_is_a_convolution(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    options = "num_output: 3 kernel_size: 3 pad: 1 stride: 2 bias_term: false"
    layer = make_layer(FIRST % options, (2, 4, 5, 6), (2, 18, 3, 3))
    plain = make_layer(f'type: "Convolution" convolution_param {{ {options} }}', (2, 4, 5, 6))
    with torch.no_grad():
        plain.weights[0].copy_(layer.weights[0])
    x = spread(2, 4, 5, 6)
    (top,) = run(layer, x, np.zeros((2, 18, 3, 3)))
    np.testing.assert_allclose(top, run(plain, x)[0], atol=1e-11)
    assert layer.multiply_adds([x.shape], [top.shape]) == plain.multiply_adds([], [top.shape])


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (FIRST, ((2, 4, 5, 6), (2, 9, 3, 4)), r"offsets of shape \(2, 18, 3, 4\), got \(2, 9"),
        (SECOND, ((2, 4, 5, 6), (2, 18, 3, 4), (2, 18, 3, 4)), r"a mask of shape \(2, 9, 3, 4\)"),
        (FIRST, ((2, 4, 5), (2, 18, 3)), "takes images"),
    ],
)
def test_refusals(
    make_layer: LayerMaker, text: str, shapes: tuple[Shape, ...], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text % "num_output: 3 kernel_size: 3", *shapes)


def test_groups_of_channels_must_fit(make_layer: LayerMaker) -> None:
    options = "num_output: 3 kernel_size: 1 deformable_group: 3"
    with pytest.raises(NetError, match="a multiple of deformable_group 3, got 4"):
        make_layer(FIRST % options, (2, 4, 5, 6), (2, 6, 5, 6))
