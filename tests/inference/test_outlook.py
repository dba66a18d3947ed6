from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.inference.engines import engine_is
from moka.inference.outlook import Outlook, outlook
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "data" type: "Input" top: "data" top: "which"
  input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "pick" type: "BatchReindex" bottom: "ip" bottom: "which" top: "pick" }
"""
USERS = """layer { name: "act" type: "Python" bottom: "data" top: "act"
  python_param { module: "tests.inference.test_acting" layer: "Counting" } }"""
NO_FORM = """
layer { name: "in" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "over" type: "ReLU" bottom: "data" top: "data" }
"""
ACTS_ONLY = NO_FORM.partition('layer { name: "over"')[0] + USERS


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_layers_apart(make_net: NetMaker, engine: str) -> None:
    with engine_is(engine):
        assert outlook(make_net(TEXT + USERS)) == Outlook(engine, ("BatchReindex", "Python"))


@pytest.mark.parametrize("text", [NO_FORM, ACTS_ONLY])
def test_nets_without_programs(make_net: NetMaker, text: str) -> None:
    with engine_is("onnxruntime"):
        assert outlook(make_net(text)) == Outlook("layerwise")


def test_other_ways(make_net: NetMaker) -> None:
    assert outlook(make_net(TEXT, caffe_pb2.TRAIN)) == Outlook("autograd")
    with engine_is("layerwise"):
        assert outlook(make_net(TEXT)) == Outlook("layerwise")
