from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

FILLERS = " ".join(
    f'{name} {{ type: "gaussian" std: 0.5 }}'
    for name in ("quadratic_weight_filler", "linear_weight_filler", "bias_filler")
)


def text(options: str) -> str:
    return f'type: "ColinearConvolution" colinear_convolution_param {{ {options} }}'


@pytest.mark.parametrize(("factor", "quadratic"), [(0, 27 * 27), (1, 27 * 27), (2, 27 * 27 * 2)])
def test_ones(make_layer: LayerMaker, run: Runner, factor: int, quadratic: int) -> None:
    ones = FILLERS.replace('"gaussian" std: 0.5', '"constant" value: 1')
    options = f"num_output: 4 kernel_size: 3 stride: 2 {ones} symmetric: true factor: {factor}"
    (y,) = run(make_layer(text(options), (2, 3, 6, 4)), np.ones((2, 3, 6, 4)))
    assert y.shape == (2, 4, 2, 1)
    np.testing.assert_allclose(y, quadratic + 27 + 1, rtol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "factor: 2",
        "pad: 1 stride: 2 group: 2",
        "group: 2 factor: 3",
        "quadratic_term: false",
        "linear_term: false bias_term: false",
    ],
)
def test_value_and_gradient(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, options: str
) -> None:
    layer = make_layer(text(f"num_output: 4 kernel_size: 2 {FILLERS} {options}"), (2, 4, 3, 4))
    x = np.random.default_rng(3).uniform(-1, 1, (2, 4, 3, 4))
    blobs = {
        name: blob.detach().double().numpy()
        for name, blob in zip(layer.parameter_names, layer.blobs, strict=True)
    }
    (y,) = run(layer, x)
    pad, stride = (1, 2) if "pad" in options else (0, 1)
    group = 2 if "group" in options else 1
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    for n, m, i, j in np.ndindex(y.shape):
        channels = slice(m // (4 // group) * (4 // group), (m // (4 // group) + 1) * (4 // group))
        top, left = i * stride, j * stride
        window = padded[n, :, top : top + 2, left : left + 2]
        patch = window.ravel()
        want = 0.0 if "bias_term" in options else blobs["bias"][m]
        if "linear_term" not in options:
            want += blobs["weight"][m].ravel() @ window[channels].ravel()
        if "quadratic_term" not in options:
            q = blobs["quadratic_weight"][m]
            want += np.square(q @ patch).sum() if "factor" in options else patch @ q @ patch
        np.testing.assert_allclose(y[n, m, i, j], want, rtol=1e-5, atol=1e-7)
    check_gradient(layer, x)


def test_v1_layers_have_it_too() -> None:
    net = build_net(
        parse_text(
            """
            input: "data" input_dim: 2 input_dim: 3 input_dim: 6 input_dim: 4
            layers { name: "c" type: COLINEAR_CONVOLUTION bottom: "data" top: "c" blobs_lr: 1
                     colinear_convolution_param { num_output: 4 kernel_size: 3 stride: 2 } }
            """,
            caffe_pb2.NetParameter,
        ),
        caffe_pb2.TRAIN,
    )
    (layer,) = (layer for name, layer in net.named_layers() if name == "c")
    assert layer.blob_shapes == [(4,), (4, 3, 3, 3), (4, 27, 27)]


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("kernel_size: 3 quadratic_term: false linear_term: false", (1, 2, 4, 4), "a quadratic or"),
        ("kernel_size: 3 group: 4", (1, 2, 4, 4), "channels must be a multiple of group"),
        ("kernel_size: 5", (1, 2, 4, 4), "larger than the padded image"),
        ("kernel_size: 3 axis: 2", (1, 2, 2, 4, 4), "axis must be 1"),
    ],
)
def test_faults(make_layer: LayerMaker, options: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text(f"num_output: 4 {options}"), shape)
