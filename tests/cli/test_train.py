from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.cli.training import SOLVER, names, replace, snapshots

from moka.report.log_file import read_log
from moka.report.tensorboard import TensorBoard
from moka.schema import caffe_pb2, read_binary

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe


def blobs_of(model: str) -> list[list[float]]:
    message = read_binary(model, caffe_pb2.NetParameter)
    return [list(blob.data) for layer in message.layer for blob in layer.blobs]


@pytest.fixture(autouse=True)
def _workspace(workspace: Path) -> None:
    """All tests here run in it."""


def test_a_whole_run(caffe: Caffe) -> None:
    run = caffe(*SOLVER)
    assert run.code == 0
    messages = run.messages("I")
    wanted = [
        "Use CPU.",
        "Creating training net from net file: net.prototxt",
        "Creating test net (#0) specified by net file: net.prototxt",
        "Solver scaffolding done.",
        "Starting Optimization",
        "Solving small",
        "Learning Rate Policy: fixed",
        "Iteration 0, Testing net (#0)",
        "Snapshotting to binary proto file snap_iter_2.caffemodel",
        "Snapshotting solver state to binary proto file snap_iter_4.solverstate",
        "Iteration 4, Testing net (#0)",
        "Optimization Done.",
    ]
    assert [m for m in messages if m in wanted] == [*wanted, wanted[-1]]
    assert [m for m in messages if m.startswith("Iteration") and "lr =" in m] == [
        "Iteration 0, lr = 0.01",
        "Iteration 2, lr = 0.01",
    ]
    assert snapshots() == names(2, 4)


def test_finetuning_starts_from_the_weights(caffe: Caffe) -> None:
    caffe(*SOLVER)
    replace("solver.prototxt", "base_lr: 0.01", "base_lr: 0")
    replace("solver.prototxt", '"snap"', '"again"')
    run = caffe(*SOLVER, "-weights", "snap_iter_4.caffemodel")
    assert "Finetuning from snap_iter_4.caffemodel" in run.messages("I")
    assert blobs_of("again_iter_4.caffemodel") == blobs_of("snap_iter_4.caffemodel")


def test_weights_on_the_command_line_count_more_than_the_solvers(caffe: Caffe) -> None:
    caffe(*SOLVER)
    solver = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(solver + 'weights: "gone.caffemodel"')
    run = caffe(*SOLVER, "-weights", "snap_iter_4.caffemodel")
    assert (run.code, run.messages("F")) == (0, [])
    assert caffe(*SOLVER, "-snapshot", "snap_iter_2.solverstate").code == 0
    assert "gone.caffemodel" in caffe(*SOLVER).messages("F")[0]


@pytest.mark.parametrize("seed", [5, -1])
def test_a_seed_makes_runs_equal(caffe: Caffe, seed: int) -> None:
    replace("solver.prototxt", "random_seed: 5", f"random_seed: {seed}")
    models = []
    for _ in range(2):
        caffe(*SOLVER)
        models.append(blobs_of("snap_iter_4.caffemodel"))
    assert (models[0] == models[1]) is (seed >= 0)


def test_resuming_goes_on_where_the_run_was(caffe: Caffe) -> None:
    caffe(*SOLVER)
    straight = Path("snap_iter_4.caffemodel").read_bytes()
    for name in names(4):
        os.unlink(name)
    run = caffe(*SOLVER, "-snapshot", "snap_iter_2.solverstate")
    assert "Resuming from snap_iter_2.solverstate" in run.messages("I")
    assert not [m for m in run.messages("I") if m.startswith("Iteration 0")]
    assert Path("snap_iter_4.caffemodel").read_bytes() == straight


def test_snapshot_auto(caffe: Caffe) -> None:
    run = caffe(*SOLVER, "-snapshot", "auto")
    assert "Found no snapshot under snap: starting afresh" in run.messages("I")
    assert snapshots() == names(2, 4)
    replace("solver.prototxt", "max_iter: 4", "max_iter: 6")
    os.unlink("snap_iter_4.caffemodel")
    run = caffe(*SOLVER, "-snapshot", "auto")
    assert "Found snap_iter_2.solverstate" in run.messages("I")
    assert snapshots() == names(2, 4, 6)


def test_without_a_prefix_snapshots_are_named_after_the_solver(caffe: Caffe) -> None:
    replace("solver.prototxt", 'snapshot_prefix: "snap"', "")
    run = caffe(*SOLVER)
    said = "snapshot_prefix was not specified and is set to solver"
    assert run.messages("I")[:2] == [said, "Use CPU."]  # as BVLC Caffe: when the file is read
    assert Path("solver_iter_4.solverstate").exists()


def test_stage_and_level_choose_layers(caffe: Caffe) -> None:
    layer = 'layer { name: "extra" type: "Silence" bottom: "ip" include { %s } }'
    text = Path("net.prototxt").read_text()
    rules = 'stage: "more"', "min_level: 2"
    Path("net.prototxt").write_text(text + "\n".join(layer % rule for rule in rules))

    def made(*flags: str) -> int:
        return caffe(*SOLVER, *flags).messages("I").count("Creating Layer extra")

    assert made() == 0
    assert made("-stage", "other,more") == 1  # in training, not in testing
    assert made("-level", "2") == 1


def test_gpu_0_where_there_is_none(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    run = caffe(*SOLVER, "-gpu", "0")
    assert run.code == 1
    assert run.messages("F") == ["there is no GPU 0: 0 found. Leave --gpu out to run on the CPU."]
    assert snapshots() == []


def test_solver_mode_gpu_where_there_is_none(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    replace("solver.prototxt", "solver_mode: CPU", "solver_mode: GPU")
    run = caffe(*SOLVER)
    assert run.code == 0
    assert run.messages("W") == [
        "The solver asks for a GPU and none is available: running on the CPU."
    ]
    assert snapshots() == names(2, 4)


def test_on_a_terminal(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    run = caffe(*SOLVER)
    assert run.code == 0
    assert run.messages() == []  # not one line of glog's
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", run.err)
    for part in (
        "small (TRAIN): 119 parameters",
        "Convolution",
        "iteration      2  saved snap_iter_2.caffemodel",
        "iteration      4  test  accuracy = ",
        "done at iteration 4",
    ):
        assert part in shown


def test_snapshot_auto_when_a_folder_has_the_prefixes_name(caffe: Caffe, workspace: Path) -> None:
    Path("solver.prototxt").write_text(
        Path("solver.prototxt").read_text().replace('snapshot_prefix: "snap"', "")
    )
    Path("solver").mkdir()
    assert caffe("train", "--solver=solver.prototxt").code == 0
    assert Path("solver/solver_iter_4.solverstate").exists()
    run = caffe("train", "--solver=solver.prototxt", "--snapshot=auto")
    assert "Found solver/solver_iter_4.solverstate" in run.messages("I")


SOFTMAX_LOSS = """
import caffe
import numpy as np

class Loss(caffe.Layer):
    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs.")

    def reshape(self, bottom, top):
        self.diff = np.zeros_like(bottom[0].data)
        top[0].reshape(1)

    def forward(self, bottom, top):
        p = np.exp(bottom[0].data - bottom[0].data.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        rows, labels = np.arange(len(p)), bottom[1].data.astype(int)
        top[0].data[...] = -np.log(p[rows, labels]).mean()
        p[rows, labels] -= 1
        self.diff[...] = p / len(p)

    def backward(self, top, propagate_down, bottom):
        assert list(propagate_down) == [True, False]
        bottom[0].diff[...] = self.diff * top[0].diff[0]
"""
PYTHON_LOSS = 'type: "Python" loss_weight: 1 python_param { module: "%s" layer: "Loss" }'


def test_a_loss_layer_in_python_trains_as_the_built_in_one(
    caffe: Caffe, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(workspace))
    Path("softmax_loss_layer.py").write_text(SOFTMAX_LOSS)
    assert caffe(*SOLVER).code == 0
    wanted = blobs_of("snap_iter_4.caffemodel")
    replace("net.prototxt", 'type: "SoftmaxWithLoss"', PYTHON_LOSS % "softmax_loss_layer")
    assert caffe(*SOLVER).code == 0
    for mine, theirs in zip(blobs_of("snap_iter_4.caffemodel"), wanted, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-7)  # float32, another order


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_a_layer_in_python_that_raises(
    caffe: Caffe, workspace: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.syspath_prepend(str(workspace))
    module = f"raising_in_{method}"
    raising = f"def {method}(self, *_):\n        raise ValueError('too wet')\n\n    def _(self,"
    code = SOFTMAX_LOSS.replace(f"def {method}(self,", raising)
    Path(f"{module}.py").write_text(code)
    replace("net.prototxt", 'type: "SoftmaxWithLoss"', PYTHON_LOSS % module)
    run = caffe(*SOLVER)
    assert run.code == 1
    assert f'{module}.py", line ' in run.err  # the user's own traceback
    assert run.messages("F") == [
        f'ValueError: too wet (raised by layer "loss" (Python, {module}.Loss))'
    ]


def test_records_as_json_and_scalars_for_tensorboard(caffe: Caffe) -> None:
    run = caffe(*SOLVER, "--json_log=run.jsonl", "--tensorboard", "board")
    assert run.code == 0
    records = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert [r["iteration"] for r in records if r["record"] == "IterationCompleted"] == [0, 1, 2, 3]
    assert records[-1]["record"] == "SolvingCompleted"
    (events,) = Path("board").iterdir()
    assert b"train/images_per_s" in events.read_bytes()
    assert b"test/accuracy" in events.read_bytes()
    assert "Iteration 0, lr = 0.01" in run.messages("I")  # as ever


@pytest.mark.parametrize("flag", ["--json_log=gone/file", "--tensorboard=net.prototxt"])
def test_records_that_cannot_be_written(caffe: Caffe, flag: str) -> None:
    run = caffe(*SOLVER, flag)
    assert run.code == 1
    assert run.messages("F")[0].startswith(flag.replace("=", " ") + " cannot be written: ")
    assert snapshots() == []


def test_images_a_second_on_a_terminal(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    assert re.search(r" [\d,]+ images/s ", caffe(*SOLVER).err)


def test_images_an_iteration_takes(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Recorder(TensorBoard):
        def __init__(self, folder: str, *, images: int) -> None:
            seen.append(images)
            super().__init__(folder)

    monkeypatch.setattr("moka.cli.train.TensorBoard", Recorder)
    Path("solver.prototxt").write_text(Path("solver.prototxt").read_text() + "iter_size: 3")
    assert caffe(*SOLVER, "--tensorboard=board").code == 0
    assert seen == [12]


@pytest.mark.parametrize("on_terminal", [False, True])
def test_the_log_file_is_complete(
    caffe: Caffe, workspace: Path, monkeypatch: pytest.MonkeyPatch, on_terminal: bool
) -> None:
    """On a terminal a bar shows the iterations, and the file has Caffe's lines all the same."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: on_terminal)
    for quiet in ([], ["--quiet"]):
        assert caffe("train", "--solver=solver.prototxt", "--log_dir=new/logs", *quiet).code == 0
        log = read_log("new/logs/caffe.INFO")
        assert [display.iteration for display in log.displays] == [0, 2, 4]
        assert [test.iteration for test in log.tests] == [0, 4]
        assert "Creating layer conv" in Path("new/logs/caffe.INFO").read_text()
        Path("new/logs/caffe.INFO").resolve().unlink()


def test_recomputed_blobs_change_nothing(caffe: Caffe) -> None:
    assert caffe(*SOLVER).code == 0
    kept = blobs_of("snap_iter_4.caffemodel")
    assert caffe(*SOLVER, "--recompute").code == 0
    assert blobs_of("snap_iter_4.caffemodel") == kept


def test_flags_of_several_processes_fill_the_solver(
    caffe: Caffe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[caffe_pb2.SolverParameter] = []

    def keep(*given: object, **_: object) -> None:
        work = given[4]
        assert isinstance(work, partial)
        seen.append(work.args[0].message)

    monkeypatch.setattr("moka.cli.train.in_processes", keep)
    assert caffe(*SOLVER).code == 0
    assert caffe(*SOLVER, "--sync_bn", "--compress=bf16", "--shard").code == 0
    plain, asked = seen
    assert not any(
        map(plain.HasField, ("sync_bn", "compress", "shard"))
    )  # nor does the log show any
    assert (asked.sync_bn, asked.compress, asked.shard) == (True, asked.BFLOAT16, True)
    wrong = caffe(*SOLVER, "--compress=zip")
    assert wrong.code == 1
    assert '--compress is bf16, not "zip".' in wrong.err
