"""Convolution and pooling in time against loops over every window."""

from __future__ import annotations

import itertools
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def slow_convolution(
    x: Array,
    weight: Array,
    bias: Array,
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    group: int = 1,
) -> Array:
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)])
    kernel = weight.shape[2:]
    out = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)]
    y = np.zeros((len(x), len(weight), *out))
    members = x.shape[1] // group
    for n, m in itertools.product(range(len(x)), range(len(weight))):
        first = m // (len(weight) // group) * members
        for place in itertools.product(*map(range, out)):
            window = tuple(
                slice(p * s, p * s + k) for p, s, k in zip(place, stride, kernel, strict=True)
            )
            part = x[n, first : first + members][(slice(None), *window)]
            y[(n, m, *place)] = (part * weight[m]).sum() + bias[m]
    return y


def slow_pooling(
    x: Array,
    method: str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...] = (0, 0, 0),
    *,
    up: bool = True,
) -> Array:
    """C3D's pooling: no window is left out at the end, averages count the padding."""
    size = x.shape[2:]
    steps = [(n + 2 * p - k) / s for n, k, s, p in zip(size, kernel, stride, pad, strict=True)]
    out = [(ceil(step) if up else int(np.floor(step))) + 1 for step in steps]
    y = np.zeros((*x.shape[:2], *out))
    for place in itertools.product(*map(range, out)):
        start = [i * s - p for i, s, p in zip(place, stride, pad, strict=True)]
        stop = [min(b + k, n + p) for b, k, n, p in zip(start, kernel, size, pad, strict=True)]
        area = np.prod([e - b for b, e in zip(start, stop, strict=True)])
        window = tuple(
            slice(max(b, 0), max(min(e, n), 0)) for b, e, n in zip(start, stop, size, strict=True)
        )
        part = x[(slice(None), slice(None), *window)].reshape(*x.shape[:2], -1)
        y[:, :, place[0], place[1], place[2]] = (
            part.max(-1) if method == "MAX" else part.sum(-1) / area
        )
    return y


@pytest.mark.parametrize("message", ["convolution3d_param", "convolution_param"])
@pytest.mark.parametrize("group", [1, 3])
def test_convolution3d(make_layer: LayerMaker, run: Runner, message: str, group: int) -> None:
    layer = make_layer(
        f'type: "Convolution3D" {message} {{ num_output: 6 kernel_size: 3 kernel_depth: 2 pad: 1'
        f" temporal_pad: 1 stride: 2 temporal_stride: 3 group: {group}"
        ' weight_filler { type: "gaussian" } bias_filler { type: "gaussian" } filter_group: 2 }',
        (2, 3, 4, 5, 6),
    )
    weight, bias = (w.detach().double().numpy() for w in layer.weights)
    assert weight.shape == (6, 3 // group, 2, 3, 3)
    assert bias.shape == (1, 1, 1, 1, 6)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6))
    (y,) = run(layer, x)
    want = slow_convolution(x, weight, bias.ravel(), (3, 2, 2), (1, 1, 1), group)
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)


def test_nd_convolution(make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck) -> None:
    layer = make_layer(
        'type: "NdConvolution" convolution_param { num_output: 2'
        " kernel_shape { dim: 2 dim: 3 dim: 1 } stride_shape { dim: 1 dim: 2 dim: 3 }"
        ' pad_shape { dim: 1 dim: 0 dim: 2 } weight_filler { type: "gaussian" } }',
        (2, 3, 4, 5, 6),
    )
    weight, bias = (w.detach().double().numpy() for w in layer.weights)
    assert bias.shape == (2,)
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 6))
    (y,) = run(layer, x)
    want = slow_convolution(x, weight, bias, (1, 2, 3), (1, 0, 2))
    np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)
    check_gradient(layer, x[:1, :, :2, :3, :2])


@pytest.mark.parametrize("group", ["group: 2", "filter_group: 2", "group: 2 filter_group: 2"])
def test_deconvolution3d_is_the_transpose_of_the_convolution(
    make_layer: LayerMaker, run: Runner, group: str
) -> None:
    """<convolution(x), y> = <x, deconvolution(y)>, as linear maps and their transposes have it."""
    window = "kernel_size: 3 kernel_depth: 2 pad: 1 stride: 2 temporal_stride: 2 bias_term: false"
    layer = make_layer(
        f'type: "Deconvolution3D" convolution3d_param {{ num_output: 4 {window} {group}'
        ' weight_filler { type: "gaussian" } }',
        (2, 6, 3, 3, 3),
    )
    (weight,) = (w.detach().double().numpy() for w in layer.weights)
    assert weight.shape == (6, 2, 2, 3, 3)
    rng = np.random.default_rng(0)
    y = rng.normal(size=(2, 6, 3, 3, 3))
    (back,) = run(layer, y)
    assert back.shape == (2, 4, 6, 5, 5)
    x = rng.normal(size=back.shape)
    there = slow_convolution(x, weight, np.zeros(6), (2, 2, 2), (0, 1, 1), 2)
    assert (there * y).sum() == pytest.approx((x * back).sum())


def test_the_bias_of_deconvolution3d(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "Deconvolution3D" convolution_param { num_output: 2 kernel_size: 1 kernel_depth: 1'
        ' bias_filler { type: "constant" value: 3 } }',
        (1, 1, 1, 1, 1),
    )
    assert layer.weights[1].shape == (1, 1, 1, 1, 2)
    (y,) = run(layer, np.ones((1, 1, 1, 1, 1)))
    assert y.ravel().tolist() == [3, 3]


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("message", ["pooling3d_param", "pooling_param"])
def test_pooling3d(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    pool: str,
    message: str,
) -> None:
    layer = make_layer(
        f'type: "Pooling3D" {message} {{ pool: {pool} kernel_size: 3 kernel_depth: 2 stride: 2'
        " temporal_stride: 2 }",
        (2, 3, 5, 6, 5),
    )
    x = spread(2, 3, 5, 6, 5)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, slow_pooling(x, pool, (2, 3, 3), (2, 2, 2)), atol=1e-12)
    check_gradient(layer, spread(1, 1, 3, 4, 4))


def test_pooling3d_keeps_windows_in_the_padding(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "Pooling3D" pooling3d_param { pool: AVE kernel_size: 2 kernel_depth: 1 stride: 2'
        " pad: 1 }",
        (1, 1, 1, 5, 5),
    )
    x = np.random.default_rng(0).normal(size=(1, 1, 1, 5, 5))
    (y,) = run(layer, x)
    assert y.shape == (1, 1, 1, 4, 4)  # Pooling has 3: the last one lies in the padding
    np.testing.assert_allclose(
        y, slow_pooling(x, "AVE", (1, 2, 2), (1, 2, 2), (0, 1, 1)), atol=1e-12
    )


def test_a_video_shorter_than_the_window(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "Pooling3D" pooling3d_param { kernel_size: 1 kernel_depth: 2 temporal_stride: 2 }',
        (1, 1, 1, 2, 2),
    )
    x = np.random.default_rng(0).normal(size=(1, 1, 1, 2, 2))
    (y,) = run(layer, x)
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_nd_pooling_rounds_down(
    make_layer: LayerMaker, run: Runner, spread: Spread, pool: str
) -> None:
    layer = make_layer(
        f'type: "NdPooling" pooling_param {{ pool: {pool} kernel_shape {{ dim: 2 dim: 2 dim: 2 }}'
        " stride_shape { dim: 2 dim: 2 dim: 2 } }",
        (2, 3, 2, 5, 7),
    )
    x = spread(2, 3, 2, 5, 7)
    (y,) = run(layer, x)
    assert y.shape == (2, 3, 1, 2, 3)
    np.testing.assert_allclose(y, slow_pooling(x, pool, (2, 2, 2), (2, 2, 2), up=False), atol=1e-12)


def test_the_pooling_at_the_end_of_c3d(make_layer: LayerMaker) -> None:
    layer = make_layer(
        'type: "NdPooling" pooling_param { pool: MAX kernel_shape { dim: 2 dim: 2 dim: 2 }'
        " stride_shape { dim: 2 dim: 2 dim: 2 } pad_shape { dim: 0 dim: 1 dim: 1 } }",
        (30, 512, 2, 7, 7),
    )
    assert layer.first_top_shapes == [(30, 512, 1, 4, 4)]


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ("Convolution3D|convolution3d_param { num_output: 1 kernel_size: 1 kernel_depth: 1 }",
         (1, 1, 2, 2), "takes videos"),
        ("Convolution3D|convolution3d_param { num_output: 1 kernel_depth: 1 }",
         (1, 1, 2, 2, 2), "kernel_size is missing"),
        ("Convolution3D|convolution3d_param { num_output: 1 kernel_size: 3 kernel_depth: 1 }",
         (1, 1, 2, 2, 2), "the kernel .3. is larger"),
        ("Convolution3D|convolution3d_param { } convolution_param { }",
         (1, 1, 2, 2, 2), "give either convolution_param or convolution3d_param"),
        ("Deconvolution3D|convolution3d_param { num_output: 6 kernel_size: 1 kernel_depth: 1"
         " group: 2 filter_group: 3 }", (1, 6, 2, 2, 2), "give one of them, got 3 and 2"),
        ("Pooling3D|pooling3d_param { kernel_size: 2 kernel_depth: 1 pad: 1 }",
         (1, 1, 2, 2, 2), "pad is for AVE pooling only"),
        ("Pooling3D|pooling3d_param { kernel_size: 2 kernel_depth: 1 }",
         (1, 1, 2, 2), "takes videos"),
        ("NdPooling|pooling_param { kernel_shape { dim: 2 dim: 2 } }",
         (1, 1, 2, 2, 2), "once for each of the 3 spatial axes"),
    ],
)  # fmt: skip
def test_bad_input(make_layer: LayerMaker, text: str, shape: tuple[int, ...], message: str) -> None:
    kind, fields = text.split("|")
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "{kind}" {fields}', shape)


def test_stochastic_pooling_in_time(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "Pooling3D" pooling3d_param { pool: STOCHASTIC kernel_size: 2 kernel_depth: 2 }',
        (1, 1, 2, 2, 2),
    )
    x = np.random.default_rng(0).uniform(size=(1, 1, 2, 2, 2))
    (y,) = run(layer, x)
    np.testing.assert_allclose(y.ravel(), [(x**2).sum() / x.sum()])


def test_an_old_net_of_c3d_is_read() -> None:
    """In V1's spelling, with the options inside convolution_param and pooling_param."""
    text = """
    input: "data" input_shape { dim: 1 dim: 3 dim: 4 dim: 8 dim: 8 }
    layers { name: "conv" type: CONVOLUTION3D bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2
      convolution_param { num_output: 4 kernel_size: 3 kernel_depth: 3 pad: 1 temporal_pad: 1 } }
    layers { name: "pool" type: POOLING3D bottom: "conv" top: "pool"
      pooling_param { pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2 temporal_stride: 1 } }
    """
    net = build_net(parse_text(text, caffe_pb2.NetParameter), caffe_pb2.TEST)
    assert net.blobs["pool"].shape == (1, 4, 4, 4, 4)
