from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from moka.errors import UsageError
from moka.matlab.commands import COMMANDS, run_command
from moka.matlab.session import HandleTable
from moka.matlab.values import ForeignArray, Handles, PlainValue, Row, Texts
from moka.solver.snapshots.state_file import read_state

NET = """
layer { name: "d" type: "DummyData" top: "d" top: "l" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 } data_filler { type: "gaussian" }
  data_filler { type: "constant" value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "ip" inner_product_param {
  num_output: 1 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "l" top: "loss" }
"""


@pytest.fixture
def session() -> Iterator[HandleTable]:
    made = HandleTable()
    yield made
    made.reset()


@pytest.fixture
def solver(session: HandleTable, tmp_path: Path) -> Any:
    (tmp_path / "n.prototxt").write_text(NET)
    (tmp_path / "s.prototxt").write_text(
        f'net: "{tmp_path}/n.prototxt" test_iter: 1 test_interval: 1000000 base_lr: 0.001'
        f' lr_policy: "fixed" max_iter: 1000000 snapshot_prefix: "{tmp_path}/s"'
        " test_initialization: false"
    )
    return run_command(session, "get_solver", [str(tmp_path / "s.prototxt")])


def one(handles: Handles, index: int) -> Handles:
    return Handles((handles.pointers[index],), handles.init_key)


def test_the_gateway_has_all_commands_of_matcaffe() -> None:
    assert {
        *("get_net", "delete_net", "delete_solver", "get_solver", "solver_get_attr"),
        *("solver_get_iter", "solver_restore", "solver_solve", "solver_step", "net_get_attr"),
        *("net_forward", "net_backward", "net_reshape", "net_copy_from", "net_save"),
        *("layer_get_attr", "layer_get_type", "blob_get_shape", "blob_reshape", "blob_get_data"),
        *("blob_set_data", "blob_get_diff", "blob_set_diff", "set_mode_cpu", "set_mode_gpu"),
        *("set_device", "get_init_key", "reset", "version", "read_mean", "write_mean"),
    } <= COMMANDS.keys()


def test_a_solver(session: HandleTable, solver: Handles, tmp_path: Path) -> None:
    parts = run_command(session, "solver_get_attr", [solver])
    assert isinstance(parts, dict)
    assert len(parts["hNet_test_nets"].pointers) == 1
    run_command(session, "solver_step", [solver, 3.0])
    assert run_command(session, "solver_get_iter", [solver]) == 3
    run_command(session, "delete_net", [parts["hNet_net"]])  # it is the solver's
    run_command(session, "net_forward", [parts["hNet_net"]])
    run_command(session, "delete_solver", [solver])
    for handle in (solver, parts["hNet_net"]):
        with pytest.raises(UsageError, match="is gone"):
            run_command(session, "delete_net", [handle])


def test_an_interrupt_ends_a_run_with_a_snapshot(
    session: HandleTable, solver: Handles, tmp_path: Path
) -> None:
    def interrupt() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)  # a terminal's may come twice

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=interrupt)
    thread.start()
    run_command(session, "solver_solve", [solver])
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    iteration = run_command(session, "solver_get_iter", [solver])
    assert isinstance(iteration, float)
    assert 0 < iteration < 1_000_000
    state = tmp_path / f"s_iter_{iteration:.0f}.solverstate"
    run_command(session, "solver_step", [solver, 2.0])  # it goes on
    run_command(session, "solver_restore", [solver, str(state)])
    assert run_command(session, "solver_get_iter", [solver]) == iteration


def test_a_mean_image(session: HandleTable, tmp_path: Path) -> None:
    mean = np.random.default_rng(0).random((3, 4, 5), np.float32)
    file = str(tmp_path / "m.binaryproto")
    run_command(session, "write_mean", [mean, file])
    read = run_command(session, "read_mean", [file])
    assert isinstance(read, np.ndarray)
    np.testing.assert_array_equal(read[0], mean)
    run_command(session, "write_mean", [mean[0], file])
    read = run_command(session, "read_mean", [file])
    assert isinstance(read, np.ndarray)
    assert read.shape == (1, 1, 4, 5)


def test_an_hdf5_file_grows(session: HandleTable, tmp_path: Path) -> None:
    file = str(tmp_path / "d.h5")
    values = np.arange(12, dtype=np.float32)
    size = Row([2, 3, 1, 2])  # two items of 1 x 3 x 2 in Caffe's order

    def store(first: float) -> PlainValue:
        return run_command(session, "hdf5_store", [file, "/data", values, size, first, 10.0])

    assert store(-1.0) == (2, 3, 1, 2)
    assert store(-1.0) == (2, 3, 1, 4)
    assert store(1.0) == (2, 3, 1, 4)
    h5py = pytest.importorskip("h5py")
    with h5py.File(file) as opened:
        stored = opened["data"][...]
    items = values.reshape(2, 1, 3, 2)
    np.testing.assert_array_equal(stored, items[[0, 0, 1, 1]])
    with pytest.raises(UsageError, match=r"size \[2 3 1\], got one of size \[3 2 1\]"):
        run_command(session, "hdf5_store", [file, "/data", values, Row([3, 2, 1, 2]), -1.0, 10.0])


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("version", [1.0], "version takes nothing, got 1 arguments"),
        ("blob_set_data", [1.0, 2.0], "takes a blob handle here, got a number"),
        ("net_forward", ["n"], "takes a net handle here, got a text"),
        ("set_device", [0.5], "a whole number, got 0.5"),
        ("write_mean", [ForeignArray("double", (2, 2)), "f"], "got an array of class double"),
        ("write_mean", [np.zeros((1, 1, 1, 1), np.float32), "f"], r"got size \[1 1 1 1\]"),
        ("get_net", ["none.prototxt", "deploy"], "'train' or 'test', got 'deploy'"),
        ("did_you_mean", ["a", "b"], "a cell array of texts"),
    ],
)
def test_refused(session: HandleTable, name: str, arguments: list[Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run_command(session, name, arguments)


def test_handles(session: HandleTable, solver: Handles) -> None:
    parts = run_command(session, "solver_get_attr", [solver])
    assert isinstance(parts, dict)
    net = parts["hNet_net"]
    attributes = run_command(session, "net_get_attr", [net])
    assert isinstance(attributes, dict)
    assert attributes == run_command(session, "net_get_attr", [net])  # the same ones each time
    blobs = attributes["hBlob_blobs"]
    assert attributes["blob_names"] == Texts(["d", "l", "ip", "loss"])
    with pytest.raises(UsageError, match="a net handle is wanted, got that of a blob"):
        run_command(session, "net_forward", [one(blobs, 0)])
    with pytest.raises(UsageError, match="one blob handle is wanted, got 4"):
        run_command(session, "blob_get_data", [blobs])
    with pytest.raises(UsageError, match=r"has size \[3 4\], got an array of size \[5 1\]"):
        run_command(session, "blob_set_data", [one(blobs, 0), np.zeros(5, np.float32)])
    with pytest.raises(UsageError, match="whole numbers"):
        run_command(session, "blob_reshape", [one(blobs, 0), Row([1.5])])
    session.reset()
    with pytest.raises(UsageError, match="this net is gone"):
        run_command(session, "net_forward", [net])


def test_what_faster_r_cnn_asks_a_solver(
    session: HandleTable, solver: Handles, tmp_path: Path
) -> None:
    assert run_command(session, "solver_get_max_iter", [solver]) == 1_000_000
    state, model = str(tmp_path / "my.solverstate"), str(tmp_path / "my.caffemodel")
    run_command(session, "solver_step", [solver, 2.0])
    run_command(session, "solver_snapshot", [solver, state, model])
    assert not (tmp_path / "s_iter_2.solverstate").exists()
    run_command(session, "solver_snapshot", [solver, "", ""])
    assert (tmp_path / "s_iter_2.solverstate").exists()
    assert read_state(state).learned_net == model
    run_command(session, "solver_step", [solver, 1.0])
    run_command(session, "solver_restore", [solver, state])
    assert run_command(session, "solver_get_iter", [solver]) == 2
    with pytest.raises(UsageError, match="the names of a state and of a model, or none"):
        run_command(session, "solver_snapshot", [solver, state, ""])


DROPPING = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 64 } } }
layer { name: "d" type: "Dropout" bottom: "x" top: "d" }
layer { name: "ip" type: "InnerProduct" bottom: "d" top: "y" inner_product_param {
  num_output: 1 weight_filler { type: "gaussian" } } }
"""


def test_the_phase_of_a_net_for_training(session: HandleTable, tmp_path: Path) -> None:
    (tmp_path / "d.prototxt").write_text(DROPPING)
    net = run_command(session, "get_net", [str(tmp_path / "d.prototxt"), "train"])
    assert isinstance(net, Handles)
    attributes: Any = run_command(session, "net_get_attr", [net])
    x, d = (one(attributes["hBlob_blobs"], i) for i in (0, 1))
    run_command(session, "blob_set_data", [x, np.ones((1, 64), np.float32)])
    for phase, dropped in (("test", False), ("train", True)):
        run_command(session, "net_set_phase", [net, phase])
        run_command(session, "net_forward", [net])
        values: Any = run_command(session, "blob_get_data", [d])
        assert bool((values == 0).any()) == dropped
    with pytest.raises(UsageError, match="the phase is 'train' or 'test', got 'run'"):
        run_command(session, "net_set_phase", [net, "run"])
    other = run_command(session, "get_net", [str(tmp_path / "d.prototxt"), "test"])
    run_command(session, "net_set_phase", [other, "test"])
    with pytest.raises(UsageError, match=r"made for 'test' and cannot train\. Make it with"):
        run_command(session, "net_set_phase", [other, "train"])


def test_nets_that_share_parameters(session: HandleTable, tmp_path: Path) -> None:
    (tmp_path / "d.prototxt").write_text(DROPPING)
    weights = []
    nets = [run_command(session, "get_net", [str(tmp_path / "d.prototxt"), "test"]) for _ in "ab"]
    run_command(session, "net_share_trained_layers_with", nets)
    for net in nets:
        attributes: Any = run_command(session, "net_get_attr", [net])
        layer: Any = run_command(session, "layer_get_attr", [one(attributes["hLayer_layers"], 2)])
        weights.append(run_command(session, "blob_get_data", [one(layer["hBlob_blobs"], 0)]))
    np.testing.assert_array_equal(weights[0], weights[1])


def test_a_log_file_and_a_seed(session: HandleTable, tmp_path: Path) -> None:
    logger = logging.getLogger("moka")
    before = list(logger.handlers)
    try:
        run_command(session, "init_log", [str(tmp_path / "log_")])
        logger.warning("kept")
    finally:
        for handler in [h for h in logger.handlers if h not in before]:
            logger.removeHandler(handler)
            handler.close()
    (file,) = tmp_path.glob("log_*")
    assert "kept" in file.read_text()
    run_command(session, "set_random_seed", [5.0])
    first = torch.rand(3)
    run_command(session, "set_random_seed", [5.0])
    assert torch.equal(torch.rand(3), first)
