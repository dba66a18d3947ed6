"""A small net and solver as files, in a folder of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import caffe
from moka.types import Array

NetOpener = Callable[..., caffe.Net]

NET = """
name: "small"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip1" type: "InnerProduct" bottom: "x" top: "h"
  inner_product_param { num_output: 4 weight_filler { type: "gaussian" } } }
layer { name: "act" type: "TanH" bottom: "h" top: "h" }
layer { name: "ip2" type: "InnerProduct" bottom: "h" top: "y"
  inner_product_param { num_output: 2 weight_filler { type: "gaussian" } } }
"""
TRAIN_NET = """
name: "line"
layer { name: "data" type: "DummyData" top: "x" top: "t"
  dummy_data_param { shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
    data_filler { value: 0.5 } data_filler { value: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 weight_filler { type: "gaussian" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
SOLVER = """
train_net: "train.prototxt" test_net: "train.prototxt" test_iter: 1 test_interval: 100
base_lr: 0.1 lr_policy: "step" gamma: 0.5 stepsize: 3 momentum: 0.9 max_iter: 6
snapshot_prefix: "snap" random_seed: 4 snapshot_after_train: false
"""


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.prototxt").write_text(NET)
    Path("train.prototxt").write_text(TRAIN_NET)
    Path("solver.prototxt").write_text(SOLVER)


@pytest.fixture
def open_net() -> NetOpener:
    """open_net(): the net in net.prototxt; keywords go to caffe.Net."""

    def make(**more: object) -> caffe.Net:
        return caffe.Net("net.prototxt", caffe.TEST, **more)  # type: ignore[arg-type]

    return make


@pytest.fixture
def net(open_net: NetOpener) -> caffe.Net:
    return open_net()


@pytest.fixture
def x() -> Array:
    return np.random.default_rng(1).standard_normal((2, 3)).astype(np.float32)


def outputs_of(net: caffe.Net, x: Array) -> tuple[Array, Array]:
    """Hidden values and outputs, by the formula."""
    w1, b1 = (blob.data for blob in net.params["ip1"])
    w2, b2 = (blob.data for blob in net.params["ip2"])
    hidden = np.tanh(x @ w1.T + b1)
    return hidden, hidden @ w2.T + b2
