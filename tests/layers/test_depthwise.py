from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.slow_conv import convolve

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


@pytest.mark.parametrize(
    ("kind", "fields", "outputs"),
    [
        ("DepthwiseConvolution", "num_output: 3 group: 3", 3),
        ("DepthwiseConvolution", "num_output: 3", 3),
        ("DepthwiseConvolution", "num_output: 6", 6),
        ("ConvolutionDepthwise", "num_output: 3", 3),
        ("ConvolutionDepthwise", "num_output: 3 group: 3", 3),
        ("ConvolutionDepthwise", "num_output: 3 group: 1", 3),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_one_kernel_for_each_channel(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    fields: str,
    outputs: int,
    bias: bool,
) -> None:
    text = (
        f'type: "{kind}" convolution_param {{ {fields} bias_term: {str(bias).lower()}'
        ' kernel_size: 3 stride: 2 pad: 1 weight_filler { type: "gaussian" }'
        ' bias_filler { type: "gaussian" } }'
    )
    layer = make_layer(text, (2, 3, 5, 4))
    assert layer.blob_shapes[0] == (outputs, 1, 3, 3)
    x = spread(2, 3, 5, 4)
    (y,) = run(layer, x)
    weight, *rest = (w.detach().double().numpy() for w in layer.weights)
    wanted = convolve(
        x,
        weight,
        rest[0] if rest else np.zeros(outputs),
        stride=(2, 2),
        pad=(1, 1),
        dilation=(1, 1),
        group=3,
    )
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
    check_gradient(layer, x)


def test_a_group_that_is_given_counts(make_layer: LayerMaker) -> None:
    text = (
        'type: "DepthwiseConvolution" convolution_param { num_output: 4 kernel_size: 1 group: 2 }'
    )
    assert make_layer(text, (1, 4, 2, 2)).blob_shapes[0] == (4, 2, 1, 1)


def test_several_bottoms(make_layer: LayerMaker) -> None:
    text = (
        'type: "ConvolutionDepthwise" top: "a" top: "b"'
        " convolution_param { num_output: 2 kernel_size: 1 weight_filler { value: 3 } }"
    )
    layer = make_layer(text, (1, 2, 1, 1), (1, 2, 2, 1))
    assert [y.sum().item() for y in layer(torch.ones(1, 2, 1, 1), torch.ones(1, 2, 2, 1))] == [
        6,
        12,
    ]


def test_the_number_of_outputs_is_that_of_channels(make_layer: LayerMaker) -> None:
    text = 'type: "ConvolutionDepthwise" convolution_param { num_output: 6 kernel_size: 1 }'
    with pytest.raises(NetError, match="num_output must be the number of channels, 3, got 6"):
        make_layer(text, (1, 3, 2, 2))
