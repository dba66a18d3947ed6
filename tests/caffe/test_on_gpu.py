"""pycaffe's programs in GPU mode; a CPU plays the GPU. Arrays are copies of what lies there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.played_gpu import playing_a_gpu
from tests.solver.late_nets import KINDS
from tests.training_runs import solver_message

import caffe
from moka.schema import format_text

DEPLOY = """
input: "data" input_shape { dim: 2 dim: 3 }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


@pytest.fixture(autouse=True)
def _gpu_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    with playing_a_gpu():
        caffe.set_device(0)
        caffe.set_mode_gpu()
        yield
        caffe.set_mode_cpu()


@pytest.fixture
def solver(monkeypatch: pytest.MonkeyPatch) -> caffe.SGDSolver:
    message = solver_message("base_lr: 0.1 momentum: 0.9 test_iter: 1 test_interval: 100")
    message.ClearField("net_param")
    Path("net.prototxt").write_text(KINDS["LeNet"])
    message.net = "net.prototxt"
    Path("solver.prototxt").write_text(format_text(message))
    made = caffe.get_solver("solver.prototxt")
    assert made.net.blobs["data"]._gpu_data_ptr
    return made


def test_a_test_nets_array_does_not_undo_training(solver: caffe.SGDSolver) -> None:
    """Both nets have one parameter, and one array of it."""
    test_net = solver.test_nets[0]
    weight = test_net.params["ip2"][0].data
    before = weight.copy()
    solver.step(2)
    trained = solver.net.params["ip2"][0].data
    assert not np.array_equal(trained, before)
    test_net.forward()
    np.testing.assert_array_equal(solver.net.params["ip2"][0].data, trained)
    np.testing.assert_array_equal(weight, trained)


def test_what_is_written_into_one_nets_array_counts_in_the_other(solver: caffe.SGDSolver) -> None:
    test_net = solver.test_nets[0]
    seen = test_net.params["ip2"][0].data
    solver.net.params["ip2"][0].data[...] = 0
    solver.net.params["ip2"][1].data[...] = [0, 0, 9]
    assert not seen.any()
    assert test_net.forward()["loss"] < 1e-3
    solver.step(1)
    np.testing.assert_array_equal(seen, solver.net.params["ip2"][0].data)


def test_an_array_may_be_filled_again_and_again() -> None:
    Path("deploy.prototxt").write_text(DEPLOY)
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    array = net.blobs["data"].data
    found = []
    for value in (1, 2):
        array[...] = value
        found.append(net.forward()["prob"].copy())
    other = caffe.Net("deploy.prototxt", caffe.TEST)
    other.share_with(net)
    for value, made in zip((1, 2), found, strict=True):
        np.testing.assert_array_equal(other.forward(data=np.full((2, 3), value))["prob"], made)
