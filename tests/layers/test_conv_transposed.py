"""Deconvolution and Im2col."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape
from tests.layers.slow_conv import CASES, deconvolve, layer_text


@pytest.mark.parametrize(("fields", "shape", "stride", "pad", "dilation", "group"), CASES)
def test_deconvolution_spreads_each_pixel(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    stride: Shape,
    pad: Shape,
    dilation: Shape,
    group: int,
) -> None:
    layer = make_layer(layer_text(fields).replace("Conv", "Deconv"), shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    assert weight.shape[:2] == (shape[1], 4 // group)
    wanted = deconvolve(x, weight, bias, stride=stride, pad=pad, dilation=dilation, group=group)
    # Both in double precision, sums of at most 27 terms.
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


def test_deconvolution_is_the_gradient_of_convolution(
    make_layer: LayerMaker, spread: Spread
) -> None:
    fields = "kernel_size: 3 stride: 2 pad: 1 group: 2 bias_term: false"
    forth = make_layer(layer_text(fields), (1, 2, 5, 7)).double()
    back = make_layer(
        layer_text(fields, outputs=2).replace("Conv", "Deconv"), (1, 4, 3, 4)
    ).double()
    back.weights[0].data[...] = forth.weights[0].data
    x = torch.zeros(1, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    dy = torch.from_numpy(spread(1, 4, 3, 4))
    forth(x)[0].backward(dy)
    assert x.grad is not None
    np.testing.assert_allclose(back(dy)[0].detach(), x.grad, rtol=1e-12, atol=1e-12)


def test_bilinear_deconvolution_scales_up(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "Deconvolution" convolution_param { num_output: 2 group: 2 kernel_size: 4 stride: 2'
        ' pad: 1 bias_term: false weight_filler { type: "bilinear" } }',
        (1, 2, 3, 3),
    )
    (y,) = run(layer, np.arange(18.0).reshape(1, 2, 3, 3))
    assert y.shape == (1, 2, 6, 6)
    # Inside, new pixels lie a quarter of the way from one old pixel to the next.
    np.testing.assert_allclose(np.diff(y[0, :, 1:5, 1:5], axis=2), 0.5, rtol=1e-12)
    np.testing.assert_allclose(np.diff(y[0, :, 1:5, 1:5], axis=1), 1.5, rtol=1e-12)


@pytest.mark.parametrize(
    ("axis", "shape", "top"), [(2, (2, 2, 3, 4, 4), (2, 2, 4, 6, 6)), (-3, (3, 4, 4), (4, 6, 6))]
)
def test_deconvolution_has_batch_axes_too(
    make_layer: LayerMaker, run: Runner, spread: Spread, axis: int, shape: Shape, top: Shape
) -> None:
    text = layer_text(f"kernel_size: 3 axis: {axis}").replace("Conv", "Deconv")
    assert run(make_layer(text, shape), spread(*shape))[0].shape == top


def test_deconvolution_without_spatial_axes(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer(layer_text("kernel_size: 1").replace("Conv", "Deconv"), (2, 3))
    x = spread(2, 3)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    wanted = [[bias[m] + sum(weight[c, m] * x[n, c] for c in range(3)) for m in range(4)]
              for n in range(2)]  # fmt: skip
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "shape", "kernel", "stride", "pad", "dilation"),
    [
        ("kernel_size: 3", (2, 2, 4, 5), (3, 3), (1, 1), (0, 0), (1, 1)),
        ("kernel_size: 2 stride: 2 pad: 1", (1, 2, 4, 5), (2, 2), (2, 2), (1, 1), (1, 1)),
        ("kernel_size: 2 dilation: 2", (1, 3, 4, 5), (2, 2), (1, 1), (0, 0), (2, 2)),
        (
            "kernel_h: 3 kernel_w: 1 pad_h: 1 pad_w: 0 stride_h: 1 stride_w: 2",
            (1, 2, 4, 5),
            (3, 1),
            (1, 2),
            (1, 0),
            (1, 1),
        ),
        ("kernel_size: 3 stride: 2 pad: 1", (2, 2, 6), (3,), (2,), (1,), (1,)),
        (
            "kernel_size: 2 dilation: 1 dilation: 2 dilation: 1 pad: 0 pad: 1 pad: 1",
            (1, 2, 2, 3, 2),
            (2, 2, 2),
            (1, 1, 1),
            (0, 1, 1),
            (1, 2, 1),
        ),
        ("kernel_size: 1", (1, 1, 2, 1, 2, 1), (1,) * 4, (1,) * 4, (0,) * 4, (1,) * 4),
    ],
)
def test_im2col(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    dilation: Shape,
) -> None:
    layer = make_layer(f'type: "Im2col" convolution_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    assert y.shape[1] == shape[1] * np.prod(kernel)
    for n, column, *at in product(*map(range, y.shape)):
        c, *k = np.unravel_index(column, (shape[1], *kernel))
        axes = range(len(kernel))
        pixel = [at[a] * stride[a] - pad[a] + k[a] * dilation[a] for a in axes]
        inside = all(0 <= pixel[a] < shape[2 + a] for a in axes)
        assert y[(n, column, *at)] == (x[(n, c, *pixel)] if inside else 0)
    check_gradient(layer, x)


@pytest.mark.parametrize("axis", [2, -2])
@pytest.mark.parametrize("more", ["", "force_nd_im2col: true"])
def test_im2col_keeps_batch_axes_apart(
    make_layer: LayerMaker, run: Runner, spread: Spread, axis: int, more: str
) -> None:
    text = f'type: "Im2col" convolution_param {{ kernel_size: 2 axis: {axis} {more} }}'
    x = spread(2, 3, 2, 5)
    (y,) = run(make_layer(text, x.shape), x)
    assert y.shape == (2, 3, 2 * 2, 4)
    for n, m in product(range(2), range(3)):
        np.testing.assert_array_equal(y[n, m, 0::2], x[n, m, :, :4])
        np.testing.assert_array_equal(y[n, m, 1::2], x[n, m, :, 1:])


def test_im2cols_number_of_axes_cannot_change(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Im2col" convolution_param { kernel_size: 2 }', (1, 1, 3, 3))
    with pytest.raises(NetError, match="was made for bottoms of 4 axes, got shape"):
        layer.top_shapes((1,))


@pytest.mark.parametrize("sides", [(1, 0, 0, 2), (0, 1, 3, 1), (2, 2, 0, 0)])
def test_sides_cut_by_themselves(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    sides: tuple[int, int, int, int],
) -> None:
    top, bottom, left, right = sides
    given = f"pad_t: {top} pad_b: {bottom} pad_l: {left} pad_r: {right}"
    text = layer_text(f"kernel_size: 3 stride: 2 {given}").replace("Conv", "Deconv")
    layer = make_layer(text, (2, 2, 3, 4))
    x = spread(2, 2, 3, 4)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    whole = deconvolve(x, weight, bias, stride=(2, 2), pad=(0, 0), dilation=(1, 1), group=1)
    wanted = whole[:, :, top : 7 - bottom, left : 9 - right]
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # double precision
    check_gradient(layer, x)


def test_columns_of_sides_padded_by_themselves(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    x = spread(1, 2, 4, 5)
    fields = 'type: "Im2col" convolution_param { kernel_size: 3 stride: 2 '
    (top,) = run(make_layer(fields + "pad_b: 1 pad_l: 2 }", x.shape), x)
    padded = np.pad(x, ((0, 0), (0, 0), (0, 1), (2, 0)))
    (wanted,) = run(make_layer(fields + "}", padded.shape), padded)
    np.testing.assert_array_equal(top, wanted)
