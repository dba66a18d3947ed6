"""Test nets whose batches several processes share: real ones, against one process alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.processes import run_together
from tests.training_runs import RANDOM, RECURRENT, database

from moka.net import build_net
from moka.parallel.join import join_team, new_uid
from moka.parallel.share import share_batches
from moka.parallel.team import Alone, Team
from moka.report.records import Record, TestCompleted
from moka.schema import caffe_pb2, parse_text
from moka.solver import testing
from moka.solver.solver import Solver

__all__ = ["database"]

CPU = torch.device("cpu")
BATCH_NORM = """
layer { name: "bn" type: "BatchNorm" bottom: "ip1" top: "ip1" }
layer { name: "drop" """
SOLVER = f"""
base_lr: 0.1 lr_policy: "fixed" snapshot_after_train: false random_seed: 3 max_iter: 6
test_iter: 5 test_interval: 2 test_initialization: true test_compute_loss: true
net_param {{ {RANDOM.replace('layer { name: "drop" ', BATCH_NORM)} }}
"""


def outcome(team: Team) -> tuple[list[Any], list[int]]:
    """The results of all tests, and where the test net's data stand at the end."""
    records: list[Record] = []
    message = parse_text(SOLVER, caffe_pb2.SolverParameter)
    solver = Solver(message, listeners=[records.append], team=team)
    solver.solve()
    found = [(r.outputs, r.loss) for r in records if isinstance(r, TestCompleted)]
    (state,) = (source.state() for _, source in solver.test_nets[0].sources)
    solver.close()
    assert state is not None
    return found, [state.records_read]


def outcomes(rank: int, count: int, uid: bytes, is_shared: bool) -> Any:
    if not is_shared:
        testing.share_batches = lambda *_: False  # type: ignore[attr-defined]
    return outcome(join_team(uid, rank, count, CPU, patience_s=30))


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("count", [2, 3, 4])
def test_results_are_those_of_the_first_process_alone(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With BatchNorm, whose sums differ in each process; and with batches that do not come out
    even."""
    monkeypatch.chdir(tmp_path)
    (alone, _), *_ = run_together(outcomes, False, uid=new_uid(), count=count)
    shared = run_together(outcomes, True, uid=new_uid(), count=count)
    assert len(alone) == 4
    assert shared[0][0] == alone
    assert [records for _, records in shared] == [[4 * 5 * 4]] * count


def decides(rank: int, count: int, uid: bytes, net: str) -> bool:
    team = join_team(uid, rank, count, CPU, patience_s=30)
    return share_batches(build_net(parse_text(net, caffe_pb2.NetParameter)), team)


DUMMY = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
  data_filler { type: "%s" value: 1 } } }
layer { name: "s" type: "Sigmoid" bottom: "x" top: "y" }
"""


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("net", "is_shared"),
    [
        (RANDOM, True),
        (DUMMY % "constant", True),
        (DUMMY % "gaussian", False),  # each process would draw its own
        (RECURRENT, False),  # a batch goes on where the one before ended
    ],
)
def test_which_nets_are_shared(
    net: str, is_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_together(decides, net, uid=new_uid()) == [is_shared] * 2
    assert not share_batches_alone(net)


def share_batches_alone(net: str) -> bool:
    return share_batches(build_net(parse_text(net, caffe_pb2.NetParameter)), Alone())
