from __future__ import annotations

import pytest
import torch
from tests.conftest import NetMaker
from tests.export.conftest import random_weights

from moka.rewrite import Model, fold_scales

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 %s } } }\n'
IMAGE = INPUT % "dim: 4 dim: 6 dim: 5"
CONV = """layer { name: "conv" type: "%s" bottom: "x" top: "y"
  convolution_param { num_output: 6 kernel_size: 3 %s } }\n"""
NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "y" top: "y" }\n'
SCALE = """layer { name: "scale" type: "Scale" bottom: "y" top: "y"
  scale_param { bias_term: true } }\n"""
RELU = 'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }\n'


def folded(make_net: NetMaker, text: str, keep: tuple[str, ...] = ()) -> list[str]:
    """The names of the layers that are left; what they compute is checked."""
    net = random_weights(make_net(text))
    model = fold_scales(Model.of(net), keep)
    built = model.build()
    x = torch.randn(net.blobs["x"].shape)
    with torch.no_grad():
        expected, found = net(x), built(x)
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4)
    return [layer.config.name for layer in model.layers]


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(
    "options",
    ["", "bias_term: false", "group: 2", "stride: 2 pad: 1", "stride: 2 pad_t: 1 pad_r: 2"],
)
def test_into_a_convolution(make_net: NetMaker, kind: str, options: str) -> None:
    text = IMAGE + CONV % (kind, options) + NORM + SCALE + RELU
    assert folded(make_net, text) == ["in", "conv", "relu"]


@pytest.mark.parametrize("options", ["", "transpose: true", "bias_term: false"])
def test_into_an_inner_product(make_net: NetMaker, options: str) -> None:
    product = f"""layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "y"
      inner_product_param {{ num_output: 6 {options} }} }}\n"""
    assert folded(make_net, IMAGE + product + NORM + SCALE) == ["in", "ip"]


def test_into_each_other(make_net: NetMaker) -> None:
    """Before a convolution, as in nets that normalize first."""
    first = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }\n'
    bias = 'layer { name: "bias" type: "Bias" bottom: "y" top: "y" }\n'
    assert folded(make_net, IMAGE + first + SCALE + bias + RELU) == ["in", "bn", "relu"]


def test_with_names_of_their_own(make_net: NetMaker) -> None:
    chain = """layer { name: "bn" type: "BatchNorm" bottom: "y" top: "n" }
    layer { name: "scale" type: "Scale" bottom: "n" top: "s" }\n"""
    assert folded(make_net, IMAGE + CONV % ("Convolution", "") + chain) == ["in", "conv"]


def test_a_blob_that_is_read_twice_stays(make_net: NetMaker) -> None:
    chain = """layer { name: "bn" type: "BatchNorm" bottom: "y" top: "n" }
    layer { name: "sum" type: "Eltwise" bottom: "y" bottom: "n" top: "s" }\n"""
    text = IMAGE + CONV % ("Convolution", "") + chain
    assert folded(make_net, text) == ["in", "conv", "bn", "sum"]


def test_a_blob_that_is_wanted_stays(make_net: NetMaker) -> None:
    chain = 'layer { name: "bn" type: "BatchNorm" bottom: "y" top: "n" }\n'
    text = IMAGE + CONV % ("Convolution", "") + chain
    assert folded(make_net, text, keep=("y",)) == ["in", "conv", "bn"]


def test_shared_kernels_stay_as_they_are(make_net: NetMaker) -> None:
    one = """layer { name: "%s" type: "Convolution" bottom: "x" top: "%s" param { name: "w" }
      convolution_param { num_output: 6 kernel_size: 3 bias_term: false } }\n"""
    text = IMAGE + one % ("conv", "y") + one % ("other", "z") + NORM
    assert folded(make_net, text) == ["in", "conv", "other"]


@pytest.mark.parametrize(
    "after",
    [
        'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
        'type: "Scale" scale_param { axis: 2 }',
        'type: "Scale" scale_param { num_axes: -1 }',
        'type: "Scale" scale_param { num_axes: 0 }',
        'type: "Bias" bias_param { axis: 0 }',
        'type: "BatchNorm" batch_norm_param { use_global_stats: false filler {} }',
        'type: "BatchNorm" batch_norm_param { relu: true }',
        'type: "BN" bn_param { bn_mode: LEARN scale_filler {} }',
        'type: "BN" bn_param { moving_average: true }',
        'type: "BN" bn_param { axis: 2 moving_average: true }',
        'type: "BN" bn_param { axis: 1 }',
        'type: "BN" bn_param { across_spatial: false }',
    ],
)
def test_other_axes_and_statistics_stay(make_net: NetMaker, after: str) -> None:
    text = IMAGE + CONV % ("Convolution", "")
    text += f'layer {{ name: "after" bottom: "y" top: "y" {after} }}'
    assert folded(make_net, text) == ["in", "conv", "after"]


@pytest.mark.parametrize(
    "norm",
    [
        'type: "BN"',
        'type: "SyncBN" bn_param { eps: 0.01 frozen: true }',
        'type: "BN" bn_param { bn_mode: INFERENCE }',
        'type: "BN" bn_param { axis: 1 moving_average: true var_eps: 0.01 }',
        'type: "BatchNorm" batch_norm_param { scale_bias: true eps: 0 }',
        'type: "BatchNorm" batch_norm_param { scale_bias: true use_global_stats: false }',
        'type: "BatchNorm" batch_norm_param { bias_filler { value: 0 } eps: 0.1 }',
        'type: "BatchNorm" batch_norm_param { use_weight_bias: true bias_term: false }',
        'type: "BatchNorm" batch_norm_param { filler { value: 1 } }',
        'type: "BatchNorm" batch_norm_param { use_weight_bias: true eps: 1e-8 }',
        'type: "BatchNorm" batch_norm_param { disable_mean: true }',
        'type: "BatchNorm" batch_norm_param { disable_variance: true scale_bias: true }',
        'type: "MKLBatchNorm"',
    ],
)
def test_of_forks(make_net: NetMaker, norm: str) -> None:
    text = IMAGE + CONV % ("Convolution", "")
    text += f'layer {{ name: "after" bottom: "y" top: "y" {norm} }}\n'
    assert folded(make_net, text + SCALE) == ["in", "conv"]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("DepthwiseConvolution", "num_output: 8 kernel_size: 3"),
        ("ConvolutionDepthwise", "num_output: 4 kernel_size: 3 bias_term: false"),
        ("LibDNNConvolution", "num_output: 6 kernel_size: 3 hole: 2"),
        ("NdConvolution", "num_output: 6 kernel_shape { dim: 3 dim: 1 }"),
    ],
)
def test_into_convolutions_of_forks(make_net: NetMaker, kind: str, options: str) -> None:
    conv = f"""layer {{ name: "conv" type: "{kind}" bottom: "x" top: "y"
      convolution_param {{ {options} }} }}\n"""
    assert folded(make_net, IMAGE + conv + NORM + SCALE) == ["in", "conv"]


@pytest.mark.parametrize("options", ["relu: true", "fuse_type: FUSED_CONV_RELU"])
def test_not_through_a_rectifier(make_net: NetMaker, options: str) -> None:
    assert folded(make_net, IMAGE + CONV % ("Convolution", options) + NORM) == ["in", "conv", "bn"]
