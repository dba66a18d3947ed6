"""A resumed run is the run that was not interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.training_runs import iterations, weights

from moka.errors import SolverError, WeightsError
from moka.report.records import (
    Record,
)
from moka.solver.choose import RULES
from moka.solver.snapshots.state_file import read_state
from moka.solver.solver import Solver
from moka.weights import load_weights

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def trained(make_solver: SolverMaker, text: str, *, stop_at: int | None) -> Solver:
    """Twenty iterations, straight or with a snapshot and a new solver in between."""
    solver = make_solver(text, net="random")
    if stop_at is not None:
        solver.step(stop_at)
        _, state = solver.snapshot()
        torch.manual_seed(99)  # a new process starts from another seed
        solver = make_solver(text.replace("random_seed: 3", "random_seed: 8"), net="random")
        solver.restore(state)
    solver.step(20 - solver.iteration)
    return solver


TYPES = {
    "SGD": "momentum: 0.9",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-6",
    "Adam": "momentum: 0.9",
    "AdamW": "momentum: 0.9",
    "LARS": "momentum: 0.9 larc_eta: 0.1",
}


def test_every_type_is_resumed() -> None:
    assert set(TYPES) == set(RULES)


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
@pytest.mark.parametrize(
    ("solver_type", "stop_at"), [("SGD", 1), ("SGD", 7), ("SGD", 19), *((t, 10) for t in TYPES)]
)
def test_a_resumed_run_is_the_same_run(
    make_solver: SolverMaker, database: str, solver_type: str, stop_at: int, kind: str
) -> None:
    text = (
        f'type: "{solver_type}" {TYPES[solver_type]} snapshot_format: {kind}'
        " weight_decay: 0.01 average_loss: 4 random_seed: 3"
        ' lr_policy: "step" gamma: 0.5 stepsize: 6 iter_size: 3'
    )
    straight = trained(make_solver, text, stop_at=None)
    model = check_same_run(straight, trained(make_solver, text, stop_at=stop_at))
    assert model.endswith(".h5") == (kind == "HDF5")
    fresh = make_solver(text, net="random")
    load_weights(fresh.net, [model])
    for a, b in zip(weights(straight), weights(fresh), strict=True):
        assert torch.equal(a, b)


def check_same_run(straight: Solver, resumed: Solver) -> str:
    """The solvers are equal to the last bit, and so are the files they write; the model's name."""
    assert all(torch.equal(a, b) for a, b in zip(weights(straight), weights(resumed), strict=True))
    averages = straight._average, resumed._average
    if averages[0] and averages[1]:
        with averages[0].in_place(), averages[1].in_place():
            pairs = zip(weights(straight), weights(resumed), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)
    # The files hold history, position in the data, random generators and recent losses too.
    model, state = straight.snapshot()
    before = read_state(state)
    resumed.snapshot()
    assert read_state(state) == before
    return model


@pytest.mark.parametrize(
    "text",
    [
        'larc: true larc_policy: "clip" larc_eta: 0.01',
        'lr_policy: "cosine" max_iter: 20 min_lr: 0.01 warmup_iter: 12',
        'lr_policy: "multifixed" stagelr: 0.1 stageiter: 8 stagelr: 0.2 stageiter: 12'
        " rampup_interval: 11",
        "clip_value: 0.05 clip_gradients: 0.5",
        "precision: BF16",
        'lr_policy: "plateau" gamma: 0.5 plateau_winsize: 4 plateau_winsize: 9 average_loss: 3'
        " warmup_iter: 2",
        "ema_decay: 0.75 test_with_ema: true test_iter: 2 test_interval: 3",
        'snapshot_best: "loss" early_stop: 100 test_iter: 2 test_interval: 3 ema_decay: 0.5',
    ],
)
@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_a_resumed_run_beyond_caffe_is_the_same_run(
    make_solver: SolverMaker, database: str, text: str, kind: str
) -> None:
    text += f" momentum: 0.9 weight_decay: 0.01 random_seed: 3 snapshot_format: {kind}"
    check_same_run(trained(make_solver, text, stop_at=None), trained(make_solver, text, stop_at=8))


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_a_run_resumed_from_the_best_snapshot_is_the_same_run(
    make_solver: SolverMaker, database: str, kind: str
) -> None:
    text = (
        f"momentum: 0.9 snapshot_format: {kind} random_seed: 3 ema_decay: 0.5 test_iter: 2"
        ' test_interval: 3 snapshot_best: "loss" snapshot_best_is: HIGHER early_stop: 50'
    )
    straight = trained(make_solver, text, stop_at=None)
    make_solver(text, net="random").step(7)
    (state,) = Path().glob("snap_best.solverstate*")
    resumed = make_solver(text.replace("seed: 3", "seed: 8"), net="random")
    resumed.restore(str(state))
    assert 0 < resumed.iteration < 7
    resumed.step(20 - resumed.iteration)
    check_same_run(straight, resumed)


def test_a_state_of_another_type_is_refused(make_solver: SolverMaker) -> None:
    make_solver('type: "Adam" momentum: 0.9').snapshot()
    with pytest.raises(SolverError, match=r"state of a solver of type Adam, not of SGD\. Set type"):
        make_solver("momentum: 0.9").restore("snap_iter_0.solverstate")


def test_a_damaged_state_names_the_one_before(make_solver: SolverMaker) -> None:
    solver = make_solver("snapshot: 1")
    solver.step(2)
    Path("snap_iter_2.solverstate").write_bytes(b"\xff")
    with pytest.raises(SolverError, match=r"The snapshot before it is snap_iter_1\.solverstate\."):
        make_solver().restore("snap_iter_2.solverstate")
    solver.snapshot()
    Path("snap_iter_2.caffemodel").write_bytes(b"\xff")
    with pytest.raises(WeightsError, match=r"snap_iter_2.*before it is snap_iter_1\.solverstate\."):
        make_solver().restore("snap_iter_2.solverstate")


def test_resuming_with_solve(make_solver: SolverMaker) -> None:
    make_solver("max_iter: 4 snapshot_after_train: true").solve()
    records: list[Record] = []
    solver = make_solver("max_iter: 6", records=records)
    solver.solve("snap_iter_4.solverstate")
    assert [r.iteration for r in iterations(records)] == [4, 5]


def test_restoring_what_belongs_to_another_net(make_solver: SolverMaker, database: str) -> None:
    make_solver().snapshot()
    solver = make_solver(net="plain")
    before = weights(solver)
    with pytest.raises((SolverError, WeightsError), match="ip"):
        solver.restore("snap_iter_0.solverstate")
    assert solver.iteration == 0
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), before, strict=True))


def test_averaged_weights_that_are_missing(make_solver: SolverMaker) -> None:
    solver = make_solver("ema_decay: 0.75")
    solver.step(2)
    _, state = solver.snapshot()
    Path("snap_iter_2.ema.caffemodel").unlink()
    with pytest.raises(WeightsError, match=r"snap_iter_2\.ema\.caffemodel"):
        make_solver("ema_decay: 0.75").restore(state)
    make_solver().restore(state)  # which asks for none


def test_averaging_can_begin_in_a_resumed_run(make_solver: SolverMaker) -> None:
    solver = make_solver()
    solver.step(2)
    _, state = solver.snapshot()
    resumed = make_solver("ema_decay: 0.75")
    resumed.restore(state)
    resumed.step(1)
    resumed.snapshot()
    load_weights(solver.net, ["snap_iter_3.ema.caffemodel"])
    for a, b in zip(weights(solver), weights(resumed), strict=True):
        assert torch.equal(a, b)


def test_the_run_that_is_resumed_is_random(make_solver: SolverMaker, database: str) -> None:
    """Were it not, the test above would say little."""
    one = trained(make_solver, "random_seed: 3", stop_at=None)
    other = trained(make_solver, "random_seed: 4", stop_at=None)
    assert not torch.equal(weights(one)[0], weights(other)[0])


@pytest.mark.parametrize("kind", ["BINARYPROTO", "HDF5"])
def test_only_a_binary_state_is_announced(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """As BVLC Caffe does."""
    caplog.set_level("INFO", "moka")
    solver = make_solver(f"snapshot_format: {kind}")
    _, state = solver.snapshot()
    solver.restore(state)
    assert ("SGDSolver: restoring history" in caplog.messages) == (kind == "BINARYPROTO")
