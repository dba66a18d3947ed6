from __future__ import annotations

from pathlib import Path

import pytest
from tests.caffe.model_libs.written import built, layer, layers_of, on_images, shapes_of, weights_of

import caffe
from caffe.model_libs import VGGNetBody
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net.outline import outline
from moka.schema import caffe_pb2, read_text

BLOCKS = [
    "conv1_1",
    "relu1_1",
    "conv1_2",
    "relu1_2",
    "pool1",
    "conv2_1",
    "relu2_1",
    "conv2_2",
    "relu2_2",
    "pool2",
    "conv3_1",
    "relu3_1",
    "conv3_2",
    "relu3_2",
    "conv3_3",
    "relu3_3",
    "pool3",
    "conv4_1",
    "relu4_1",
    "conv4_2",
    "relu4_2",
    "conv4_3",
    "relu4_3",
    "pool4",
    "conv5_1",
    "relu5_1",
    "conv5_2",
    "relu5_2",
    "conv5_3",
    "relu5_3",
]
FC = ["pool5", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7"]
SSD = dict(fully_conv=True, reduced=True, dilated=True)
FC6 = """
name: "fc6" type: "Convolution" bottom: "pool5" top: "fc6"
param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
convolution_param { num_output: 1024 kernel_size: 3 pad: 6 dilation: 6
  weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0 } }
"""
FC7 = """
name: "fc7" type: "Convolution" bottom: "fc6" top: "fc7"
param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
convolution_param { num_output: 1024 kernel_size: 1
  weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0 } }
"""


def vgg(size: int = 64, **options: object) -> caffe.NetSpec:
    return VGGNetBody(on_images(size, size), "data", **options)  # type: ignore[arg-type]


def window(net: caffe.NetSpec, name: str) -> tuple[list[int], list[int], list[int], list[int]]:
    param = layers_of(net)[name].convolution_param
    return list(param.kernel_size), list(param.pad), list(param.stride), list(param.dilation)


def test_parameters_are_those_of_the_reference_model() -> None:
    file = Path(__file__).parents[3] / "models/vgg16/deploy.prototxt"
    want = weights_of(outline(build_graph(read_text(file, caffe_pb2.NetParameter), REGISTRY)))
    del want["fc8"]
    net = vgg(224)
    assert list(layers_of(net)) == ["data", *BLOCKS, *FC]
    assert weights_of(built(net)) == want


def test_without_the_end() -> None:
    net = vgg(need_fc=False)
    assert list(layers_of(net)) == ["data", *BLOCKS]
    shapes = shapes_of(net)
    assert (shapes["conv4_3"], shapes["conv5_3"]) == ((2, 512, 8, 8), (2, 512, 4, 4))


def test_as_ssd_takes_it() -> None:
    net = vgg(dropout=False, **SSD)
    layers = layers_of(net)
    assert list(layers) == ["data", *BLOCKS, "pool5", "fc6", "relu6", "fc7", "relu7"]
    assert (layers["fc6"], layers["fc7"]) == (layer(FC6), layer(FC7))
    pool = layers["pool5"].pooling_param
    assert (pool.kernel_size, pool.stride, pool.pad, pool.pool) == (3, 1, 1, pool.MAX)
    assert window(net, "conv4_3") == ([3], [1], [], [])
    assert window(net, "conv5_3") == ([3], [1], [], [1])
    for phase in (caffe.TRAIN, caffe.TEST):
        assert shapes_of(net, phase)["fc7"] == (2, 1024, 4, 4)


@pytest.mark.parametrize(
    ("options", "size", "fc6", "fc7"),
    [
        ({}, ([7], [3], [], [1]), 4096, (2, 4096, 2, 2)),
        (dict(reduced=True), ([3], [3], [], [3]), 1024, (2, 1024, 2, 2)),
        (dict(dilated=True), ([7], [6], [], [2]), 4096, (2, 4096, 4, 4)),
        (dict(dilated=True, reduced=True), ([3], [6], [], [6]), 1024, (2, 1024, 4, 4)),
    ],
)
def test_fully_convolutional(
    options: dict[str, bool], size: tuple[list[int], ...], fc6: int, fc7: tuple[int, ...]
) -> None:
    net = vgg(fully_conv=True, **options)
    assert window(net, "fc6") == size
    assert layers_of(net)["fc6"].convolution_param.num_output == fc6
    assert shapes_of(net)["fc7"] == fc7


def test_a_dilated_pool4_dilates_twice_as_much() -> None:
    net = vgg(dilate_pool4=True, **SSD)
    assert window(net, "conv5_1") == ([3], [2], [], [2])
    assert window(net, "fc6") == ([3], [12], [], [12])
    assert shapes_of(net)["fc7"] == (2, 1024, 8, 8)


def test_convolutions_in_place_of_pools() -> None:
    net = vgg(nopool=True, **SSD)
    want = {"pool1": "conv1_3", "pool2": "conv2_3", "pool3": "conv3_4", "pool4": "conv4_4"}
    assert list(layers_of(net)) == ["data", *(want.get(n, n) for n in BLOCKS), "conv5_4", *FC[1:]]
    assert window(net, "conv4_4") == ([3], [1], [2], [])
    assert window(net, "conv5_4") == ([3], [1], [1], [])
    assert shapes_of(net)["fc7"] == (2, 1024, 4, 4)
    assert shapes_of(vgg(nopool=True))["conv5_4"] == (2, 512, 2, 2)


def test_frozen_layers() -> None:
    layers = layers_of(vgg(freeze_layers=["conv1_1", "fc6", "gone"], **SSD))
    frozen = [name for name, each in layers.items() if {p.lr_mult for p in each.param} == {0}]
    assert frozen == ["conv1_1", "fc6"]
    assert [(p.lr_mult, p.decay_mult) for p in layers["fc6"].param] == [(0, 0), (0, 0)]
    assert layers["fc6"].convolution_param == layer(FC6).convolution_param


def test_a_layer_to_stand_on() -> None:
    with pytest.raises(KeyError, match="image"):
        VGGNetBody(on_images(64, 64), "image")
