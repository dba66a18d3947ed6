from __future__ import annotations

import pytest
from tests.conftest import NetMaker

from moka.errors import NetError
from moka.layers.registry import Entry
from moka.rewrite import Model, drop_layers

NET = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 2 } } }
layer { name: "a" type: "TanH" bottom: "x" top: "a" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "a" bottom: "label" top: "loss" top: "prob" }
"""


def is_loss(entry: Entry) -> bool:
    return entry.is_loss


def test_losses_and_what_only_they_read(make_net: NetMaker) -> None:
    model = drop_layers(Model.of(make_net(NET)), is_loss)
    assert [layer.config.name for layer in model.layers] == ["in", "a"]
    assert model.build().graph.outputs == ("a",)


def test_a_top_that_is_read(make_net: NetMaker) -> None:
    net = make_net(NET + 'layer { name: "b" type: "ReLU" bottom: "prob" top: "b" }')
    with pytest.raises(NetError, match=r'layer "loss" \(SoftmaxWithLoss\): is left out .*"b" reads'
                                       " its top prob"):  # fmt: skip
        drop_layers(Model.of(net), is_loss)
