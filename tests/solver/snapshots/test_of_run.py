from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch

from moka.errors import SolverError
from moka.report.records import Record, SnapshotWritten
from moka.solver.snapshots.state_file import read_state
from moka.weights.binary import read_model

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training_runs import SolverMaker


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_snapshot_is_announced_and_the_guard_knows_it(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(records=records)
    solver.step(3)
    files = solver.snapshot()
    assert [(r.iteration, r.model_file, r.state_file)
            for r in records if isinstance(r, SnapshotWritten)] == [(3, *files)]  # fmt: skip
    assert solver.guard.last_snapshot == files[0]
    assert read_state(files[1]).iter == 3


@pytest.mark.parametrize("due", [False, True])
def test_parameters_that_are_not_finite_are_not_written(
    make_solver: SolverMaker, due: bool
) -> None:
    solver = make_solver("snapshot: 2")
    solver.step(1)

    def spoil() -> None:
        next(solver.net.parameters()).data.fill_(torch.nan)

    if due:
        solver.on_gradients_ready.append(spoil)
    else:
        spoil()
    with pytest.raises(SolverError, match="a parameter is not a finite number at iteration"):
        solver.step(1) if due else solver.snapshot()
    assert os.listdir() == []


AUXILIARY = """
test_iter: 1 test_interval: 100
net_param {
layer { name: "aux" type: "InnerProduct" bottom: "x" top: "a" include { phase: TRAIN }
  inner_product_param { num_output: 1 weight_filler { type: "gaussian" } } }
layer { name: "aux_loss" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "aux_loss"
  include { phase: TRAIN } } }
"""


def test_a_snapshot_is_of_the_net_that_is_trained(make_solver: SolverMaker) -> None:
    """Also where a net for tests lacks some of its layers."""
    solver = make_solver(AUXILIARY)
    assert "aux" not in [name for name, _ in solver.test_nets[0].named_layers()]
    solver.step(2)
    model, state = solver.snapshot()
    names = [layer.name for layer in read_model(model).layer if layer.blobs]
    assert names == ["ip", "aux"]
    other = make_solver(AUXILIARY)
    other.restore(state)
    for name in ("ip.weight", "aux.weight"):
        assert other.net.get_parameter(name).equal(solver.net.get_parameter(name))
