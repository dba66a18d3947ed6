from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from tests.conftest import NetMaker
from torch import nn
from torch.func import functional_call

from moka.layers.parameters import Parameters
from moka.net import Net

TEXT = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }
"""


def in_place(net: Net) -> None:
    x = torch.zeros(2, 3)
    functional_call(net, {"ip.weight": torch.ones(3, 3), "ip.bias": torch.ones(3)}, (x,))


WAYS: dict[str, Callable[[Net], object]] = {
    "weights": lambda net: net.layers[1].weights,
    "attribute": lambda net: net.layers[1].weight,
    "get_parameter": lambda net: net.get_parameter("ip.weight"),
    "parameters": lambda net: next(net.parameters()),
    "layer's parameters": lambda net: next(net.layers[1].parameters()),
    "state_dict": lambda net: net.state_dict(),
    "load_state_dict": lambda net: net.load_state_dict(net.state_dict()),
    "to": lambda net: net.to(torch.float32),
    "functional_call": in_place,
    "the dict": lambda net: net.layers[1]._parameters["weight"],
    "its values": lambda net: list(net.layers[1]._parameters.values()),
    "another": lambda net: setattr(net.layers[1], "weight", nn.Parameter(torch.ones(3, 3))),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_gets_hold_of_a_parameter_counts(make_net: NetMaker, way: str) -> None:
    net = make_net(TEXT)
    before, of_all = net.layers[1].exposures, Parameters.exposures_of_all
    WAYS[way](net)
    assert net.layers[1].exposures > before
    assert Parameters.exposures_of_all > of_all


def test_a_pass_does_not_count_as_one(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    before = net.layers[1].exposures
    net(x=torch.rand(2, 3))
    assert net.layers[1].exposures == before
    of_all = Parameters.exposures_of_all
    assert len(net.layers[1].blobs) == 2  # whoever keeps these is noticed by the count of all
    assert net.layers[1].exposures == before
    assert Parameters.exposures_of_all > of_all


def test_nobody_has_got_hold_of_a_copy(make_net: NetMaker) -> None:
    net = make_net(TEXT)
    assert net.layers[1].weight is not None
    copied = deepcopy(net)
    assert copied.layers[1].exposures == 0
    assert net.layers[1].exposures > 0
    assert torch.equal(copied.layers[1].weights[0], net.layers[1].weights[0])
    assert copied.layers[1].weights[0] is not net.layers[1].weights[0]
