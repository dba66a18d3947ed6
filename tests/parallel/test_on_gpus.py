"""Two GPUs train one model: NCCL, and all that goes with it. Run by `pytest -m gpu`."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest
import torch
from tests.jobs import SOLVER, forget_snapshots, job, run_folder
from tests.training_runs import PLAIN, database

import moka

__all__ = ["database", "run_folder"]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs"),
    pytest.mark.usefixtures("run_folder"),
]

ONE, TWO = ("--gpu=0",), ("--gpu=0,1",)
ITERATIONS = 60
HIDDEN = """
layer { name: "hidden" type: "InnerProduct" bottom: "data" top: "hidden"
  inner_product_param { num_output: 320 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "hidden" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
"""


@pytest.fixture(autouse=True)
def _net(run_folder: Path) -> None:
    """A net with BatchNorm, and more than 16,384 numbers in a layer, which --shard divides."""
    data, rest = PLAIN.split('layer {\n  name: "ip"')
    rest = rest.replace('bottom: "data"', 'bottom: "norm"')
    Path("net.prototxt").write_text(f'{data}{HIDDEN}layer {{ name: "ip"{rest}')
    Path("solver.prototxt").write_text(SOLVER.format(iterations=ITERATIONS))


def trained(*flags: str) -> dict[str, torch.Tensor]:
    """The parameters of the layers that a run leaves."""
    forget_snapshots()
    with job("moka", "train", "--solver=solver.prototxt", *flags) as run:
        assert run.end() == 0, run.log
    net = moka.load("net.prototxt", f"snap_iter_{ITERATIONS}.caffemodel")
    return {name: value for name, value in net.state_dict().items() if "norm" not in name}


@pytest.mark.parametrize(
    ("flags", "tolerance"),
    [((), 1e-3), (("--shard",), 1e-3), (("--compress=bf16",), 0.05), (("--recompute",), 1e-3)],
)
def test_two_train_as_one_with_the_whole_batch(flags: tuple[str, ...], tolerance: float) -> None:
    wanted = trained(*ONE)
    found = trained(*TWO, "--strong", "--sync_bn", *flags)
    for name, value in wanted.items():
        difference = (found[name] - value).norm() / value.norm()
        assert difference < tolerance, name


def test_a_killed_process_costs_nothing_but_time() -> None:
    Path("solver.prototxt").write_text(SOLVER.format(iterations=2000))
    with job("moka", "train", "--solver=solver.prototxt", *TWO) as disturbed:
        disturbed.wait_for("Snapshotting solver state", 2)
        os.kill(disturbed.workers()[1], signal.SIGKILL)
        disturbed.wait_for("Resuming from snap_iter_")
        assert disturbed.end() == 0, disturbed.log
    assert "was ended by SIGKILL. All start again from the last snapshot (1 of 3)." in disturbed.log


def test_two_test_as_one() -> None:
    trained(*ONE)
    words = ("--model=net.prototxt", f"--weights=snap_iter_{ITERATIONS}.caffemodel")
    losses = []
    for device in (ONE, TWO):
        with job("moka", "test", *words, "--iterations=6", *device) as run:
            assert run.end() == 0, run.log
        losses.append(float(re.findall(r"loss = ([\d.]+)", run.log)[-1]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
