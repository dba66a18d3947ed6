from __future__ import annotations

import pytest
from tests.caffe.model_libs.written import layer, layers_of, on_images, shapes_of

import caffe
from caffe.model_libs import ZFNetBody

BODY = [
    "data",
    "conv1",
    "relu1",
    "norm1",
    "pool1",
    "conv2",
    "relu2",
    "norm2",
    "pool2",
    "conv3",
    "relu3",
    "conv4",
    "relu4",
    "conv5",
    "relu5",
]
NORM1 = """
name: "norm1" type: "LRN" bottom: "conv1" top: "norm1"
lrn_param { local_size: 3 alpha: 0.00005 beta: 0.75 norm_region: WITHIN_CHANNEL engine: CAFFE }
"""
CONV2 = """
name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
convolution_param { num_output: 256 kernel_size: 5 pad: 2 stride: 2
  weight_filler { type: "xavier" } bias_filler { type: "constant" value: 0 } }
"""


def zf(**options: object) -> caffe.NetSpec:
    return ZFNetBody(on_images(64, 64), "data", **options)  # type: ignore[arg-type]


def test_layers() -> None:
    net = zf()
    layers = layers_of(net)
    assert list(layers) == [*BODY, "pool5", "fc6", "relu6", "drop6", "fc7", "relu7", "drop7"]
    assert (layers["norm1"], layers["conv2"]) == (layer(NORM1), layer(CONV2))
    shapes = shapes_of(net)
    assert (shapes["conv5"], shapes["fc7"]) == ((2, 256, 5, 5), (2, 4096))


def test_without_the_end() -> None:
    assert list(layers_of(zf(need_fc=False))) == BODY


@pytest.mark.parametrize(
    ("options", "window", "shape"),
    [
        ({}, ([6], [2], []), (2, 4096, 2, 2)),
        (dict(reduced=True), ([3], [2], [2]), (2, 1024, 3, 3)),
        (dict(dilated=True), ([6], [5], [2]), (2, 4096, 5, 5)),
        (dict(dilated=True, reduced=True), ([3], [5], [5]), (2, 1024, 5, 5)),
    ],
)
def test_fully_convolutional(
    options: dict[str, bool], window: tuple[list[int], ...], shape: tuple[int, ...]
) -> None:
    net = zf(fully_conv=True, dropout=False, **options)
    layers = layers_of(net)
    assert list(layers) == [*BODY, "pool5", "fc6", "relu6", "fc7", "relu7"]
    param = layers["fc6"].convolution_param
    assert (list(param.kernel_size), list(param.pad), list(param.dilation)) == window
    assert shapes_of(net)["fc7"] == shape


def test_scores_of_classes() -> None:
    for fully_conv, shape in ((False, (2, 1000)), (True, (2, 1000, 2, 2))):
        net = zf(need_fc8=True, fully_conv=fully_conv)
        assert list(layers_of(net))[-2:] == ["fc8", "prob"]
        assert shapes_of(net)["prob"] == shape


def test_frozen_layers() -> None:
    layers = layers_of(zf(freeze_layers=["conv1"]))
    assert [p.lr_mult for p in layers["conv1"].param] == [0, 0]
    assert [p.lr_mult for p in layers["conv2"].param] == [1, 2]
