"""Nets for training as nets for use."""

from __future__ import annotations

from pathlib import Path

import pytest

from moka.errors import NetError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import build_net, read_net
from moka.rewrite.for_use import net_for_use
from moka.schema import caffe_pb2, parse_text
from moka.types import Shape

MODELS = Path(__file__).parents[2] / "models"
DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        data_param { source: "nothing" batch_size: 4 } }
layer { name: "train" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        data_param { source: "nothing" batch_size: 4 } }
"""
IP = """
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "prob"
        inner_product_param { num_output: 3 } }
"""
ENDS = """
layer { name: "accuracy" type: "Accuracy" bottom: "prob" bottom: "label" top: "accuracy" }
layer { name: "loss" type: "%s" bottom: "prob" bottom: "label" top: "loss" %s }
"""


def for_use(text: str, **shapes: Shape) -> caffe_pb2.NetParameter:
    param = read_net(parse_text(text, caffe_pb2.NetParameter))[0]
    return net_for_use(build_graph(param, REGISTRY, phase=caffe_pb2.TEST), shapes)


def test_images_come_in_and_probabilities_go_out() -> None:
    text = DATA + IP + ENDS % ("SoftmaxWithLoss", "softmax_param { axis: 1 }")
    made = for_use(text, data=(4, 1, 5, 6), label=(4,))
    assert [(layer.name, layer.type) for layer in made.layer] == [
        ("data", "Input"), ("ip", "InnerProduct"), ("prob_2", "Softmax"),
    ]  # fmt: skip
    assert list(made.layer[0].input_param.shape[0].dim) == [1, 1, 5, 6]
    assert made.layer[2].top == ["prob_2"]  # "prob" is the name of the scores
    net = build_net(made, caffe_pb2.TEST)
    assert list(net.graph.outputs) == ["prob_2"]


def test_another_loss() -> None:
    made = for_use(DATA + IP + ENDS % ("SigmoidCrossEntropyLoss", ""), data=(4, 1, 5, 6),
                   label=(4,))  # fmt: skip
    assert made.layer[-1].type == "Sigmoid"
    made = for_use(DATA + IP + ENDS % ("HingeLoss", ""), data=(4, 1, 5, 6), label=(4,))
    assert [layer.name for layer in made.layer] == ["data", "ip"]


def test_the_last_of_several_losses_counts() -> None:
    param = read_net(MODELS / "bvlc_googlenet" / "train_val.prototxt")[0]
    graph = build_graph(param, REGISTRY, phase=caffe_pb2.TEST)
    made = net_for_use(graph, {"data": (50, 3, 224, 224), "label": (50,)})
    deploy = read_net(MODELS / "bvlc_googlenet" / "deploy.prototxt")[0]
    assert [layer.type for layer in made.layer] == [layer.type for layer in deploy.layer]
    assert not any(
        name.startswith(("loss1", "loss2")) for layer in made.layer for name in layer.top
    )


def test_a_net_for_use_stays() -> None:
    deploy = read_net(MODELS / "squeezenet_v1.1" / "deploy.prototxt")[0]
    graph = build_graph(deploy, REGISTRY, phase=caffe_pb2.TEST)
    assert net_for_use(graph, {}) == graph.filtered


def test_data_without_images() -> None:
    with pytest.raises(NetError, match="no data layer of the net makes images"):
        for_use(DATA + IP, data=(4, 9), label=(4,))
