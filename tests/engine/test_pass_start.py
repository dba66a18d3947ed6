from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.pass_start import go_back
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

# Random data, statistics that a pass changes, a state it hands on, dropout.
EVERYTHING = """
layer { name: "in" type: "DummyData" top: "x" top: "cont" top: "t" dummy_data_param {
  shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } shape { dim: 3 dim: 2 dim: 5 }
  data_filler { type: "gaussian" } data_filler { value: 1 } data_filler { type: "gaussian" } } }
layer { name: "norm" type: "BatchNorm" bottom: "x" top: "n" }
layer { name: "drop" type: "Dropout" bottom: "n" top: "n" }
layer { name: "lstm" type: "LSTM" bottom: "n" bottom: "cont" top: "h"
  recurrent_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "h" bottom: "t" top: "loss" }
"""


def test_the_very_same_pass_again(make_net: NetMaker, device: torch.device) -> None:
    net = make_net(EVERYTHING, caffe_pb2.TRAIN)
    step = Autograd(net, replayable=True)
    for _ in range(3):
        step.forward_backward()
    before = [w.detach().clone() for layer in net.layers for w in layer.weights]
    state = net.layers[3].run_state()[0].clone()
    loss = step.forward_backward()
    start = step.start
    assert start is not None
    after = [w.detach().clone() for layer in net.layers for w in layer.weights]
    assert not all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    go_back(net, start)
    now = [w.detach() for layer in net.layers for w in layer.weights]
    assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
    assert torch.equal(net.layers[3].run_state()[0], state)
    again = net.propagate(dict(start.inputs))["loss"]
    assert again.item() == loss.item()
    other = net.propagate(dict(start.inputs))["loss"]
    assert other.item() != loss.item()


def test_only_a_replayable_step_remembers(make_net: NetMaker) -> None:
    step = Autograd(make_net(EVERYTHING, caffe_pb2.TRAIN))
    step.forward_backward()
    assert step.start is None


COUNTING = """
import caffe

class Counting(caffe.Layer):
    def setup(self, bottom, top):
        self.passes = 0

    def reshape(self, bottom, top):
        top[0].reshape(2)

    def forward(self, bottom, top):
        self.passes += 1
        top[0].data[...] = self.passes
"""
COUNTED = """
layer { name: "in" type: "Python" top: "x"
  python_param { module: "counting_source" layer: "Counting" } }
layer { name: "twice" type: "Scale" bottom: "x" top: "loss" loss_weight: 1
  scale_param { axis: 0 num_axes: 0 filler { value: 2 } } }
"""


def test_data_that_a_users_own_layer_makes(
    make_net: NetMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "counting_source.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    step = Autograd(make_net(COUNTED, caffe_pb2.TRAIN), replayable=True)
    assert [float(step.forward_backward()) for _ in range(3)] == [4, 8, 12]
    assert step.start is not None
    assert step.start.inputs["x"].tolist() == [3, 3]
    step.layerwise.debug_info = True
    assert float(step.forward_backward()) == 16
