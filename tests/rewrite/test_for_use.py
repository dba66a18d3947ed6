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


TWO_SOURCES = """
layer { name: "rows" type: "HDF5Data" top: "x" top: "cont" top: "target"
        hdf5_data_param { source: "nothing" batch_size: 4 } }
layer { name: "maps" type: "ImageData" top: "map" top: "name"
        image_data_param { source: "nothing" batch_size: 4 } }
layer { name: "both" type: "Concat" bottom: "x" bottom: "cont" top: "both" }
layer { name: "ip" type: "InnerProduct" bottom: "both" top: "ip"
        inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "ip" top: "ip" }
"""
SHAPES: dict[str, Shape] = {"x": (4, 7), "cont": (4, 1), "target": (4,), "map": (4, 1, 2, 2),
                            "name": (4,)}  # fmt: skip


def test_all_that_the_prediction_needs_comes_in() -> None:
    loss = """
    layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "ip" bottom: "target" top: "l" }
    layer { name: "after" type: "Dropout" bottom: "ip" top: "after" }
    """
    made = for_use(TWO_SOURCES + loss, **SHAPES)
    assert [(layer.name, *layer.input_param.shape[0].dim) for layer in made.layer[:2]] == [
        ("x", 1, 7), ("cont", 1, 1),
    ]  # fmt: skip
    assert [layer.name for layer in made.layer[2:]] == ["both", "ip", "relu", "prob"]


def test_scores_that_need_labels_end_before_these() -> None:
    """As SphereFace's margins: the features are what such a net is used for."""
    text = """
    layer { name: "margin" type: "MarginInnerProduct" bottom: "prob" bottom: "label" top: "margin"
            margin_inner_product_param { num_output: 4 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "margin" bottom: "label" top: "loss" }
    """
    made = for_use(DATA + IP + text, data=(4, 1, 5, 6), label=(4,))
    assert [layer.name for layer in made.layer] == ["data", "ip"]


def test_a_last_loss_that_does_not_predict_leaves_all_scores() -> None:
    text = """
    layer { name: "aux" type: "SoftmaxWithLoss" bottom: "prob" bottom: "label" top: "aux" }
    layer { name: "main" type: "InnerProduct" bottom: "data" top: "main"
            inner_product_param { num_output: 3 } }
    layer { name: "loss" type: "HingeLoss" bottom: "main" bottom: "label" top: "loss" }
    """
    made = for_use(DATA + IP + text, data=(4, 1, 5, 6), label=(4,))
    assert [layer.name for layer in made.layer] == ["data", "ip", "main"]


def test_an_autoencoder() -> None:
    text = """
    layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" }
    layer { name: "loss" type: "SigmoidCrossEntropyLoss" bottom: "prob" bottom: "flat" top: "loss" }
    """
    made = for_use(DATA + IP + text, data=(4, 1, 5, 6), label=(4,))
    assert [layer.name for layer in made.layer] == ["data", "ip", "prob_2"]


def test_without_a_loss_that_predicts_images_come_in() -> None:
    text = """
    layer { name: "pool" type: "Pooling" bottom: "map" top: "pool" }
    layer { name: "loss" type: "EuclideanLoss" bottom: "pool" bottom: "x" top: "l" }
    """
    made = for_use(TWO_SOURCES + text, **SHAPES)
    assert [layer.name for layer in made.layer] == ["map", "pool"]


def test_rows_of_numbers() -> None:
    text = DATA + IP + ENDS % ("EuclideanLoss", "")
    made = for_use(text, data=(4, 9), label=(4,))
    assert [layer.name for layer in made.layer] == ["data", "ip"]
    assert list(made.layer[0].input_param.shape[0].dim) == [1, 9]


def test_a_prediction_of_nothing_that_is_read() -> None:
    text = """
    layer { name: "made" type: "DummyData" top: "prob"
            dummy_data_param { shape { dim: 4 dim: 3 } } }
    """
    with pytest.raises(NetError, match="what the net predicts needs nothing of a data layer"):
        for_use(DATA + text + ENDS % ("SoftmaxWithLoss", ""), data=(4, 9), label=(4,))
