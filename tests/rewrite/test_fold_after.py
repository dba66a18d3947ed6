from __future__ import annotations

import pytest
import torch
from tests.conftest import NetMaker
from tests.export.conftest import random_weights

from moka.rewrite import Model, fold_scales_forward

IMAGE = """layer { name: "in" type: "Input" top: "x"
  input_param { shape { dim: 2 dim: 4 dim: 6 dim: 5 } } }\n"""
NORM = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "n" }\n'
SCALE = """layer { name: "scale" type: "Scale" bottom: "n" top: "n"
  scale_param { bias_term: %s } }\n"""
CONV = """layer { name: "conv" type: "Convolution" bottom: "n" top: "y"
  convolution_param { num_output: 6 kernel_size: 3 %s } }\n"""
IP = """layer { name: "ip" type: "InnerProduct" bottom: "n" top: "y"
  inner_product_param { num_output: 3 %s } }\n"""
ONLY_SCALE = SCALE.replace('bottom: "n" top: "n"', 'bottom: "x" top: "n"')


def folded(make_net: NetMaker, text: str, keep: tuple[str, ...] = ()) -> list[str]:
    """The names of the layers that are left; what they compute is checked."""
    net = random_weights(make_net(text))
    model = fold_scales_forward(Model.of(net), keep)
    x = torch.randn(net.blobs["x"].shape)
    with torch.no_grad():
        expected, found = net(x), model.build()(x)
    assert list(found) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-4)
    return [layer.config.name for layer in model.layers]


@pytest.mark.parametrize("options", ["", "bias_term: false", "group: 2", "stride: 2"])
def test_into_a_convolution_without_padding(make_net: NetMaker, options: str) -> None:
    text = IMAGE + NORM + SCALE % "true" + CONV % options
    assert folded(make_net, text) == ["in", "conv"]


def test_into_a_convolution_with_padding(make_net: NetMaker) -> None:
    """A shift would have to reach the padding too."""
    assert folded(make_net, IMAGE + ONLY_SCALE % "false" + CONV % "pad: 1") == ["in", "conv"]
    for options in ("pad: 1", "pad_h: 1", "pad_w: 2", "pad_b: 1"):
        text = IMAGE + ONLY_SCALE % "true" + CONV % options
        assert folded(make_net, text) == ["in", "scale", "conv"]


@pytest.mark.parametrize("options", ["", "transpose: true", "bias_term: false"])
def test_into_an_inner_product(make_net: NetMaker, options: str) -> None:
    assert folded(make_net, IMAGE + NORM + SCALE % "true" + IP % options) == ["in", "ip"]


def test_what_is_read_or_wanted_otherwise_stays(make_net: NetMaker) -> None:
    other = 'layer { name: "relu" type: "ReLU" bottom: "n" top: "r" }\n'
    assert folded(make_net, IMAGE + NORM + CONV % "" + other) == ["in", "bn", "conv", "relu"]
    text = IMAGE + NORM + CONV % ""
    assert folded(make_net, text, ("n",)) == ["in", "bn", "conv"]
    assert folded(make_net, text, ("y",)) == ["in", "conv"]
