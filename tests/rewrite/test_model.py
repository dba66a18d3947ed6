from __future__ import annotations

import torch
from tests.conftest import NetMaker

from moka.rewrite import Model

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } bias_term: false } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } bias_term: false } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
layer { name: "relu" type: "ReLU" bottom: "sum" top: "sum" }
"""


def test_a_net_of_the_same_tensors(make_net: NetMaker) -> None:
    net = make_net(NET)
    model = Model.of(net)
    assert [layer.config.name for layer in model.layers] == ["in", "a", "b", "sum", "relu"]
    assert model.input_shapes == {"x": (2, 3)}
    built = model.build()
    assert built.layers[1].weights[0].data_ptr() == net.layers[1].weights[0].data_ptr()
    x = torch.randn(5, 3)
    torch.testing.assert_close(built(x), net(x))


def test_readers(make_net: NetMaker) -> None:
    assert Model.of(make_net(NET)).readers() == [[[1]], [[2, 3]], [[3]], [[4]], [[]]]


def test_another_batch(make_net: NetMaker) -> None:
    net = Model.of(make_net(NET)).with_batch(7).build()
    assert net.blobs["sum"].shape == (7, 3)


def test_half_weights(make_net: NetMaker) -> None:
    net = make_net(NET)
    net.layers[1].weights[0].data[0, 0] = 1e6  # too large for float16
    model = Model.of(net).with_half_weights()
    assert torch.equal(model.layers[1].blobs[0], net.layers[1].weights[0])
    net.layers[1].weights[0].data[0, 0] = 1
    model = Model.of(net).with_half_weights()
    expected = net.layers[1].weights[0].half().float()
    assert torch.equal(model.layers[1].blobs[0], expected)
