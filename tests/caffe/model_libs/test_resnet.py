from __future__ import annotations

from pathlib import Path

import pytest
from tests.caffe.model_libs.written import built, layers_of, on_images, shapes_of, weights_of

import caffe
from caffe.model_libs import ResBody, ResNet101Body, ResNet152Body
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net.outline import outline
from moka.schema import caffe_pb2, read_text


@pytest.mark.parametrize(("depth", "body"), [(101, ResNet101Body), (152, ResNet152Body)])
def test_parameters_are_those_of_the_reference_model(depth: int, body: type) -> None:
    file = Path(__file__).parents[3] / f"models/resnet{depth}/deploy.prototxt"
    want = weights_of(outline(build_graph(read_text(file, caffe_pb2.NetParameter), REGISTRY)))
    del want["fc1000"]
    net = body(on_images(64, 64), "data")
    assert weights_of(built(net)) == want
    assert net.keys()[-1] == "pool5"
    assert [p.lr_mult for p in layers_of(net)["bn_conv1"].param] == [0, 0, 0]


def test_the_last_stage_is_dilated() -> None:
    plain = ResNet101Body(on_images(64, 64), "data", use_pool5=False)
    dilated = ResNet101Body(on_images(64, 64), "data", use_pool5=False, use_dilation_conv5=True)
    assert dilated.keys()[-1] == "res5c_relu"
    for net, size, dilation in ((plain, 2, []), (dilated, 4, [2])):
        shapes, layers = shapes_of(net), layers_of(net)
        assert shapes["res3b3"] == (2, 512, 8, 8)
        assert shapes["res5c"] == (2, 2048, size, size)
        found = [list(layers[f"res5{b}_branch2b"].convolution_param.dilation) for b in "abc"]
        assert found == [dilation] * 3
        assert not layers["res4b22_branch2b"].convolution_param.dilation


def block(**options: object) -> caffe.NetSpec:
    net = on_images(8, 8)
    ResBody(net, "data", "2a", 4, 5, 6, 2, True, **options)  # type: ignore[arg-type]
    return net


def test_a_block() -> None:
    net = block()
    assert net.keys() == [
        "data",
        *("res2a_branch1", "bn2a_branch1", "scale2a_branch1"),
        *("res2a_branch2a", "bn2a_branch2a", "scale2a_branch2a", "res2a_branch2a_relu"),
        *("res2a_branch2b", "bn2a_branch2b", "scale2a_branch2b", "res2a_branch2b_relu"),
        *("res2a_branch2c", "bn2a_branch2c", "scale2a_branch2c"),
        *("res2a", "res2a_relu"),
    ]
    shapes = shapes_of(net)
    assert shapes["res2a_branch2a"] == (2, 4, 4, 4)
    assert shapes["res2a_branch2b"] == (2, 5, 4, 4)
    assert shapes["res2a"] == shapes["res2a_branch1"] == (2, 6, 4, 4)
    assert list(layers_of(net)["res2a"].bottom) == ["res2a_branch1", "res2a_branch2c"]


def test_options_of_a_block() -> None:
    layers = layers_of(block(dilation=3, use_global_stats=True))
    param = layers["res2a_branch2b"].convolution_param
    assert (list(param.pad), list(param.dilation)) == ([3], [3])
    assert layers["bn2a_branch1"].batch_norm_param.use_global_stats
    net = on_images(8, 8)
    ResBody(net, "data", "2b", 4, 4, 3, 1, False)
    assert list(layers_of(net)["res2b"].bottom) == ["data", "res2b_branch2c"]
