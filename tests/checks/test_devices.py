from __future__ import annotations

import pytest

from moka.checks.devices import DEVICES, LAUNCH_S, estimated_step, timed_buckets
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

NET = """
layer { name: "data" type: "Input" top: "x" top: "t" input_param {
  shape { dim: 16 dim: 64 dim: 32 dim: 32 } shape { dim: 16 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 64 kernel_size: 3 pad: 1 } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 200 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "t" top: "loss" }
"""


def test_the_slower_of_products_and_memory_counts() -> None:
    device = DEVICES["a100"]
    few = device.seconds(0, 2.04e9, bfloat16=False)
    assert few == pytest.approx(LAUNCH_S + 2.04e9 / (0.8 * 2.04e12))
    many = device.seconds(156e9, 1, bfloat16=False)
    assert many == pytest.approx(LAUNCH_S + 2 * 156e9 / (0.5 * 156e12))
    assert device.seconds(156e9, 1, bfloat16=True) == pytest.approx(LAUNCH_S + 2e-3)


def test_gradients_become_ready_from_the_last_layer_on() -> None:
    net = build_net(parse_text(NET, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    step = estimated_step(net, DEVICES["a100"], bfloat16=False)
    bias, ip, conv = step.buckets  # 52 MB have one of their own
    sizes = (bias.size, ip.size, conv.size)
    assert sizes == (4 * 200, 4 * 200 * 65536, 4 * (64 * 64 * 9 + 64))
    assert bias.left_s == ip.left_s
    assert ip.left_s > conv.left_s == 0  # the convolution is the last that has a gradient
    assert ip.left_s < step.whole_s
    half = estimated_step(net, DEVICES["a100"], bfloat16=False, share=0.5)
    assert half.size == step.size
    assert half.whole_s < step.whole_s
    slow = estimated_step(net, DEVICES["v100"], bfloat16=False)
    assert slow.whole_s > step.whole_s


def test_a_gradient_that_never_comes_is_not_waited_for() -> None:
    net = build_net(parse_text(NET, caffe_pb2.NetParameter), caffe_pb2.TRAIN)
    weight = net.layers[1].weights[0]
    assert timed_buckets(net, {id(weight): 0.25})[2].left_s == 0.25
    assert timed_buckets(net, {})[2].left_s == 0
