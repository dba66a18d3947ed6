from __future__ import annotations

import pytest
import torch

from moka.errors import NetError
from moka.graph import build_graph
from moka.graph.aligned_crops import unaligned_crops
from moka.layers import REGISTRY
from moka.net import build_net, read_net
from moka.schema import caffe_pb2, parse_text

# As HED: wide pads, a pooling, a deconvolution that undoes it, in-place layers between.
NET = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 1 dim: 20 dim: 24 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 1 kernel_size: 3 pad: 6 bias_term: false } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
        pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "pool" top: "x"
        convolution_param { num_output: 1 kernel_size: 2 stride: 2 bias_term: false } }
layer { name: "crop" type: "AutoCrop" bottom: "x" bottom: "data" top: "z" }
layer { name: "again" type: "AutoCrop" bottom: "conv" bottom: "z" top: "y" }
"""


def crops(text: str) -> dict[str, list[int]]:
    graph = build_graph(read_net(parse_text(text, caffe_pb2.NetParameter))[0], REGISTRY)
    return {
        layer.name: [layer.crop_param.axis, *layer.crop_param.offset]
        for layer in graph.filtered.layer
        if layer.HasField("crop_param")
    }


def test_offsets_are_found() -> None:
    assert crops(NET) == {"crop": [2, 5], "again": [2, 5]}


def test_what_is_cropped_lies_on_the_input() -> None:
    net = build_net(parse_text(NET, caffe_pb2.NetParameter))
    conv = next(net.parameters())
    with torch.no_grad():
        conv.zero_()[0, 0, 1, 1] = 1
    x = torch.rand(1, 1, 20, 24)
    assert torch.equal(net(data=x)["y"], x)


def test_offsets_that_are_given_count() -> None:
    assert crops(NET.replace('top: "z"', 'top: "z" crop_param { offset: 1 }'))["crop"] == [2, 1]


def test_the_crop_of_v1_nets() -> None:
    text = """
    input: "data" input_dim: 1 input_dim: 1 input_dim: 20 input_dim: 24
    layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv"
             convolution_param { num_output: 1 kernel_size: 3 pad: 5 } }
    layers { name: "crop" type: CROP bottom: "conv" bottom: "data" top: "crop" }
    """
    assert crops(text) == {"crop": [2, 4]}


def test_a_crop_after_parts_are_put_together() -> None:
    """As in a U-Net: what is put together lies on the first part."""
    text = """
    layer { name: "both" type: "Concat" bottom: "z" bottom: "conv" top: "both" }
    layer { name: "halves" type: "Slice" bottom: "both" top: "half" top: "other" }
    layer { name: "last" type: "AutoCrop" bottom: "conv" bottom: "other" top: "last" }
    """
    assert crops(NET + text)["last"] == [2, 5]


def test_the_axis_that_is_given_has_to_be_the_first_of_windows() -> None:
    axis = 'top: "z" crop_param { axis: %d }'
    assert crops(NET.replace('top: "z"', axis % 2))["crop"] == [2, 5]
    with pytest.raises(NetError, match="it crops from axis 3 on, windows slide from 2 on"):
        crops(NET.replace('top: "z"', axis % 3))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("kernel_size: 2 stride: 2 bias", "kernel_size: 3 stride: 2 bias", "noninteger offset"),
        ("kernel_size: 2 stride: 2 bias", "kernel_size: 2 stride: 1 bias", "scale mismatch"),
        ("pad: 6", "pad: 0", "negative offset"),
        ('"ReLU"', '"Reduction"', "no layers with windows connect them"),
    ],
)
def test_crops_that_cannot_be_aligned(old: str, new: str, told: str) -> None:
    with pytest.raises(NetError) as caught:
        crops(NET.replace(old, new))
    assert 'layer "crop"' in str(caught.value)
    assert 'no offset aligns "x" with "data"' in str(caught.value)
    assert told in str(caught.value)
    assert "Give crop_param { offset: ... }." in str(caught.value)


def test_crops_of_bvlc_that_say_nothing() -> None:
    plain = NET.replace("AutoCrop", "Crop").replace('bottom: "z"', 'bottom: "data"')
    net = read_net(parse_text(plain, caffe_pb2.NetParameter))[0]
    assert unaligned_crops(net, REGISTRY) == [("crop", [5]), ("again", [5])]
    told = plain.replace('top: "z"', 'top: "z" crop_param { offset: 0 }')
    net = read_net(parse_text(told, caffe_pb2.NetParameter))[0]
    assert unaligned_crops(net, REGISTRY) == [("again", [5])]
