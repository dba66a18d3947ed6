"""What the log says while a net is built, in BVLC Caffe's words and order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from moka.net import log_lines
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
name: "n"
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "acc" type: "Silence" bottom: "y" include { phase: TRAIN } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 0.5 }
"""

LINES = """
Creating layer in
Creating Layer in
in -> x
in -> t
Setting up in
Top shape: 2 3 (6)
Top shape: 2 3 (6)
Memory required for data: 48
Creating layer ip
Creating Layer ip
ip <- x
ip -> y
Setting up ip
Top shape: 2 3 (6)
Memory required for data: 72
Creating layer relu
Creating Layer relu
relu <- y
relu -> y (in-place)
Setting up relu
Top shape: 2 3 (6)
Memory required for data: 96
Creating layer loss
Creating Layer loss
loss <- y
loss <- t
loss -> loss
Setting up loss
Top shape: (1)
    with loss weight 0.5
Memory required for data: 100
loss needs backward computation.
relu needs backward computation.
ip needs backward computation.
in does not need backward computation.
This network produces output loss
Network initialization done.
Memory taken by data: 76 in training, at most 72 at a time in testing; by parameters: 48
"""


def test_all_lines_of_a_net(make_net: NetMaker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka.detail")
    make_net(TEXT)
    rule, opening, *lines = caplog.messages
    assert rule == (
        "The NetState phase (1) differed from the phase (0) specified by a rule in layer acc"
    )
    assert opening.startswith('Initializing net from parameters: \nname: "n"\n')
    assert lines == LINES.strip().splitlines()


SHARED = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "a" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
  param { name: "b" } inner_product_param { num_output: 3 } }
layer { name: "b" type: "InnerProduct" bottom: "y" top: "z" param { name: "w" }
  param { name: "b" } inner_product_param { num_output: 3 } }
layer { name: "c" type: "TanH" bottom: "z" top: "z" }
"""


def test_sharing_is_told_after_the_layer_that_shares(
    make_net: NetMaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moka.detail")
    make_net(SHARED)
    first = caplog.messages.index("Setting up b")
    assert caplog.messages[first : first + 6] == [
        "Setting up b",
        "Top shape: 2 3 (6)",
        "Memory required for data: 72",
        "Sharing parameters 'w' owned by layer 'a', param index 0",
        "Sharing parameters 'b' owned by layer 'a', param index 1",
        "Creating layer c",
    ]
    assert sum(line.startswith("Sharing") for line in caplog.messages) == 2


def test_opening_shows_the_net_after_its_rules(caplog: pytest.LogCaptureFixture) -> None:
    net = parse_text(TEXT, caffe_pb2.NetParameter)
    del net.layer[3]
    header, _, text = log_lines.opening(net).partition("\n")
    assert header == "Initializing net from parameters: "
    assert parse_text(text, caffe_pb2.NetParameter) == net
