"""Steps that would spoil the parameters: refused, explained, or skipped."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.solver.ways import WAYS, in_this_way
from tests.training_runs import NETS

from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.errors import SolverError
from moka.report.records import FinalLoss, IterationCompleted, Record
from moka.solver.choose import RULES
from moka.solver.faults.divergence import all_finite, nonfinite_fact
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker

# The root of a pixel: its slope at 0 is infinite, and below 0 there is none.
ROOT = """
name: "root"
layer {
  name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 2 backend: LMDB }
}
layer { name: "norm" type: "BatchNorm" bottom: "data" top: "norm" }
layer { name: "silence" type: "Silence" bottom: "norm" }
layer {
  name: "ip" type: "Scale" bottom: "data" top: "ip" scale_param { filler { value: 1 } }
}
layer { name: "root" type: "Power" bottom: "ip" top: "y" power_param { power: 0.5 } }
layer { name: "sum" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }
"""
PixelWriter = Callable[..., None]
EACH = [f"{k:02}" for k in range(6)]


@pytest.fixture
def pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PixelWriter:
    """Makes the database "db" of single pixels: pixels(4, 9, ...); the net "root" reads it."""
    monkeypatch.setitem(NETS, "root", ROOT)

    def make(*values: float) -> None:
        with LmdbWriter(tmp_path / "db") as writer:
            for key, value in zip(EACH, values, strict=False):
                record = datum.encode(np.zeros((1, 1, 1), np.uint8), 0)
                record.ClearField("data")
                record.float_data.append(value)
                writer.put(key.encode(), record.SerializeToString())

    return make


@pytest.fixture(params=WAYS)
def make_solver(make_solver: SolverMaker, request: pytest.FixtureRequest) -> SolverMaker:
    """Solvers that keep the guard's promise in each way of making a step."""

    def make(*args: Any, **more: Any) -> Solver:
        return in_this_way(make_solver(*args, **more), request.param)

    return make


def state(solver: Solver) -> list[torch.Tensor]:
    parameters = [w.detach() for layer in solver.net.layers for w in layer.weights]
    return [t.clone() for t in (*parameters, *solver.rule.history())]


def test_what_is_not_finite() -> None:
    assert nonfinite_fact(1.5, True) is None
    assert nonfinite_fact(float("inf"), True) == "the loss is inf"
    assert nonfinite_fact(1.5, False) == "the loss is 1.5, but gradients are not finite"


def test_all_finite(device: torch.device) -> None:
    def finite(*tensors: torch.Tensor) -> bool:
        return all_finite([t.to(device) for t in tensors])

    assert finite()
    assert finite(torch.zeros(2, 3), torch.ones(1))
    assert finite(torch.full((2,), 3e38), torch.ones(1))  # though their sum is not
    assert not finite(torch.ones(2), torch.tensor([1.0, torch.inf, -torch.inf]))
    assert not finite(torch.tensor([[torch.nan]]), torch.ones(1))


@pytest.mark.parametrize("iter_size", [1, 3])
def test_the_error_says_where_and_with_which_records(
    make_solver: SolverMaker, pixels: PixelWriter, iter_size: int
) -> None:
    pixels(4, 9, 1, 4, 9, -1)
    solver = make_solver(f"base_lr: 0.001 iter_size: {iter_size}", net="root")
    at = 3 // iter_size - 1
    with pytest.raises(SolverError) as caught:
        solver.step(3)
    said = str(caught.value)
    assert said.startswith(
        f"(given message): the loss is nan at iteration {at}: training has diverged, at a learning"
        ' rate of 0.001. Not finite at first: top blob y of layer "root" (Power), forward'
        " (1 of 2 values, the first is nan at (1, 0, 0, 0)). The batch of layer"
        ' "data" is "04" to "05", that value of "05". No snapshot has been made yet.'
    )
    assert said.endswith(f"See that iteration layer by layer with --replay=snap_iter_{at}.replay.")
    assert os.path.exists(f"snap_iter_{at}.replay")


def test_a_finite_loss_with_gradients_that_are_not(
    make_solver: SolverMaker, pixels: PixelWriter
) -> None:
    pixels(4, 9, 0, 4)
    solver = make_solver("base_lr: 0.01 momentum: 0.5", net="root")
    solver.step(1)
    before = state(solver)
    with pytest.raises(SolverError) as caught:
        solver.step(1)
    said = str(caught.value)
    assert re.search(r"the loss is 1\.\d+, but gradients are not finite at iteration 1: ", said)
    assert (
        'bottom blob ip of layer "root" (Power), backward (1 of 2 values, the first is inf' in said
    )
    assert '"02" to "03", that value of "02"' in said
    assert all(torch.equal(a, b) for a, b in zip(before, state(solver), strict=True))


@pytest.mark.parametrize("solver_type", RULES)
@pytest.mark.parametrize("bad", [0, -1, np.inf])
def test_a_skipped_step_leaves_everything_as_it_was(
    make_solver: SolverMaker,
    pixels: PixelWriter,
    caplog: pytest.LogCaptureFixture,
    bad: float,
    solver_type: str,
) -> None:
    pixels(4, 9, bad, 4, 1, 1)
    records: list[Record] = []
    text = f'skip_nonfinite: 1 base_lr: 0.01 type: "{solver_type}"'
    solver = make_solver(text, net="root", records=records)
    solver.step(1)
    before = state(solver)
    solver.step(1)
    assert all(torch.equal(a, b) for a, b in zip(before, state(solver), strict=True))
    (warning,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
    assert " at iteration 1: skipped. Not finite at first: " in warning
    assert '"02" to "03"' in warning
    solver.step(3)  # the bad one comes again as number 4
    assert solver.iteration == 5
    assert all(t.isfinite().all() for t in state(solver))
    done = [r.iteration for r in records if isinstance(r, IterationCompleted)]
    assert done == [0, 2, 3]
    assert not any(name.endswith(".replay") for name in os.listdir())


def test_too_many_skipped_in_a_row(make_solver: SolverMaker, pixels: PixelWriter) -> None:
    pixels(1, 1, -1, 1, 1, -1)
    solver = make_solver("skip_nonfinite: 2 base_lr: 0", net="root")
    solver.step(7)  # never more than two in a row
    assert solver.iteration == 7
    solver = make_solver("skip_nonfinite: 1 base_lr: 0", net="root")
    with pytest.raises(SolverError, match="loss is nan at iteration 2, after 1 skipped in a row: "):
        solver.step(7)
    assert os.path.exists("snap_iter_2.replay")


@pytest.mark.parametrize("skip", [0, 1])
def test_the_loss_after_the_last_update(
    make_solver: SolverMaker, pixels: PixelWriter, skip: int
) -> None:
    pixels(1, 1, -1, 1)
    records: list[Record] = []
    text = f"max_iter: 1 display: 1 base_lr: 0 skip_nonfinite: {skip}"
    solver = make_solver(text, net="root", records=records)
    if skip:
        solver.solve()
        assert not any(isinstance(r, FinalLoss) for r in records)
    else:
        with pytest.raises(SolverError, match=r'the loss is nan at iteration 1: .* layer "root"'):
            solver.solve()


def test_a_replay_that_cannot_be_kept(make_solver: SolverMaker, pixels: PixelWriter) -> None:
    pixels(-1, 1)
    solver = make_solver('snapshot_prefix: "gone/snap"', net="root")
    with pytest.raises(
        SolverError, match=r'layer "root".* be kept in gone/snap_iter_0\.replay: No'
    ):
        solver.step(1)


def test_a_sum_that_overflows_in_no_layer(
    make_solver: SolverMaker, pixels: PixelWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels(4, 4)
    monkeypatch.setitem(NETS, "root", ROOT.replace("loss_weight: 1", "loss_weight: 1e38"))
    with pytest.raises(SolverError, match=r"loss is inf .* every value is finite\. The batch of"):
        make_solver(net="root").step(1)


def test_skip_nonfinite_has_to_make_sense(make_solver: SolverMaker) -> None:
    with pytest.raises(SolverError, match="skip_nonfinite must be >= 0, got -1"):
        make_solver("skip_nonfinite: -1")
