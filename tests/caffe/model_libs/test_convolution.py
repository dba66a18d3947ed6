from __future__ import annotations

from typing import Any

import pytest
from tests.caffe.model_libs.written import layer, layers_of, on_images, shapes_of

import caffe
from caffe.model_libs import ConvBNLayer, UnpackVariable

PLAIN = """
name: "c" type: "Convolution" bottom: "data" top: "c"
param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2
  weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0 } }
"""
NORMALIZED = (
    """
name: "c" type: "Convolution" bottom: "data" top: "c" param { lr_mult: 1 decay_mult: 1 }
convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 bias_term: false
  weight_filler { type: "gaussian" std: 0.01 } }
""",
    """
name: "c_bn" type: "BatchNorm" bottom: "c" top: "c" param { lr_mult: 0 decay_mult: 0 }
param { lr_mult: 0 decay_mult: 0 } param { lr_mult: 0 decay_mult: 0 }
batch_norm_param { moving_average_fraction: 0.999 eps: 0.001 }
""",
    """
name: "c_scale" type: "Scale" bottom: "c" top: "c"
param { lr_mult: 1 decay_mult: 0 } param { lr_mult: 1 decay_mult: 0 }
scale_param { filler { type: "constant" value: 1 } bias_term: true
  bias_filler { type: "constant" value: 0 } }
""",
    'name: "c_relu" type: "ReLU" bottom: "c" top: "c"',
)
BIAS = """
name: "c_bias" type: "Bias" bottom: "c" top: "c" param { lr_mult: 1 decay_mult: 0 }
bias_param { filler { type: "constant" value: 0 } }
"""


def convolution(
    use_bn: bool, use_relu: bool = False, size: object = 3, pad: object = 1, stride: object = 2,
    **options: object,
) -> caffe.NetSpec:  # fmt: skip
    net = on_images(8, 8)
    ConvBNLayer(net, "data", "c", use_bn, use_relu, 4, size, pad, stride, **options)  # type: ignore[arg-type]
    return net


def test_with_biases() -> None:
    layers = layers_of(convolution(use_bn=False))
    assert list(layers) == ["data", "c"]
    assert layers["c"] == layer(PLAIN)


def test_with_batch_norm() -> None:
    net = convolution(use_bn=True, use_relu=True)
    assert list(layers_of(net).values())[1:] == [layer(text) for text in NORMALIZED]
    assert shapes_of(net, caffe.TRAIN)["c"] == (2, 4, 4, 4)


def test_bias_in_place_of_scale() -> None:
    layers = layers_of(convolution(use_bn=True, use_scale=False))
    assert list(layers) == ["data", "c", "c_bn", "c_bias"]
    assert layers["c_bias"] == layer(BIAS)


def test_stored_statistics_stop_the_training_of_scale() -> None:
    for use_scale, last in ((True, "c_scale"), (False, "c_bias")):
        net = convolution(True, use_scale=use_scale, use_global_stats=True, eps=1e-5, lr_mult=3)
        layers = layers_of(net)
        norm = layers["c_bn"].batch_norm_param
        assert norm.use_global_stats
        assert norm.eps == pytest.approx(1e-5)
        assert not norm.HasField("moving_average_fraction")
        assert [p.lr_mult for p in layers["c"].param] == [3]
        assert {p.lr_mult for p in layers[last].param} == {0}


def test_options_of_batch_norm() -> None:
    layers = layers_of(convolution(True, moving_average_fraction=0.9))
    assert layers["c_bn"].batch_norm_param.moving_average_fraction == pytest.approx(0.9)
    with pytest.raises(TypeError, match="moving_average"):
        convolution(True, moving_average=0.9)


def test_learning_rates() -> None:
    assert [p.lr_mult for p in layers_of(convolution(False, lr_mult=5))["c"].param] == [5, 10]
    layers = layers_of(convolution(True, lr_mult=5))
    assert [p.lr_mult for p in layers["c_scale"].param] == [5, 5]


def test_dilation() -> None:
    net = convolution(False, pad=2, stride=1, dilation=2)
    assert list(layers_of(net)["c"].convolution_param.dilation) == [2]
    assert shapes_of(net)["c"] == (2, 4, 8, 8)
    assert not layers_of(convolution(False, dilation=1))["c"].convolution_param.dilation


def test_kernels_that_are_not_square() -> None:
    net = convolution(False, False, [1, 7], [0, 3], [1, 2])
    param = layers_of(net)["c"].convolution_param
    assert (param.kernel_h, param.kernel_w) == (1, 7)
    assert (param.pad_h, param.pad_w, param.stride_h, param.stride_w) == (0, 3, 1, 2)
    assert [*param.kernel_size, *param.pad, *param.stride] == []
    assert shapes_of(net)["c"] == (2, 4, 8, 4)


def test_the_height_speaks_for_square_kernels() -> None:
    param = layers_of(convolution(False, False, [3], [1, 2], [2, 1]))["c"].convolution_param
    assert (*param.kernel_size, *param.pad, *param.stride) == (3, 1, 2)


def test_prefixes_and_postfixes() -> None:
    names: dict[str, Any] = {}
    for kind in ("conv", "bn", "scale", "bias"):
        names |= {f"{kind}_prefix": f"{kind}<", f"{kind}_postfix": ">"}
    want = ["data", "conv<c>", "bn<c>", "scale<c>", "conv<c>_relu"]
    assert list(layers_of(convolution(True, True, **names))) == want
    names |= dict(use_scale=False)
    assert list(layers_of(convolution(True, **names))) == ["data", "conv<c>", "bn<c>", "bias<c>"]


def test_unpacking() -> None:
    assert UnpackVariable(3, 2) == UnpackVariable([3], 2) == [3, 3]
    assert UnpackVariable([1, 7], 2) == UnpackVariable((1, 7), 2) == [1, 7]
    with pytest.raises(ValueError, match="has 3 values: give 1 or 2"):
        UnpackVariable([1, 2, 3], 2)
