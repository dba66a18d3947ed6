"""A net for other data, and for other classes."""

from __future__ import annotations

import pytest

from moka.errors import NetError
from moka.net.other_data import with_classes, with_sources
from moka.schema import caffe_pb2, parse_text

TRAIN, TEST = caffe_pb2.TRAIN, caffe_pb2.TEST
DATA = """
layer { name: "a" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "old" batch_size: 2 } transform_param { mean_value: 3 } }
layer { name: "b" type: "ImageData" top: "data" top: "label" include { phase: TEST }
  image_data_param { source: "list" batch_size: 2 } }
"""
LAYERS = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc"
  inner_product_param { num_output: 10 } }
layer { name: "side" type: "InnerProduct" bottom: "conv" top: "side"
  inner_product_param { num_output: 3 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def test_each_phase_has_its_source() -> None:
    old = net(DATA + LAYERS)
    new = with_sources(old, {TRAIN: "new_train", TEST: "new_test"}, "mean.binaryproto")
    first, second = new.layer[:2]
    assert first.data_param.source == "new_train"
    assert second.image_data_param.source == "new_test"
    assert not first.transform_param.mean_value
    assert first.transform_param.mean_file == "mean.binaryproto"
    assert old.layer[0].data_param.source == "old"
    assert new.layer[2:] == old.layer[2:]


def test_a_phase_that_is_not_named_stays() -> None:
    new = with_sources(net(DATA), {TRAIN: "new"})
    assert new.layer[1].image_data_param.source == "list"
    assert list(new.layer[0].transform_param.mean_value) == [3]


def test_a_net_without_data() -> None:
    with pytest.raises(NetError, match="no layer reads files in phase TEST"):
        with_sources(net(LAYERS), {TEST: "new"})


def test_the_last_layers_get_the_classes() -> None:
    new = with_classes(net(DATA + LAYERS), 7)
    outputs = {layer.name: layer.inner_product_param.num_output for layer in new.layer[4:6]}
    assert outputs == {"fc_7": 7, "side_7": 7}
    assert new.layer[2].convolution_param.num_output == 4


def test_a_layer_that_has_the_classes_keeps_its_name() -> None:
    assert [layer.name for layer in with_classes(net(LAYERS), 10).layer[2:4]] == ["fc", "side_10"]


def test_no_layer_with_outputs() -> None:
    with pytest.raises(NetError, match="no layer has num_output"):
        with_classes(net(DATA), 7)
