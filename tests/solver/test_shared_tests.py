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


DRAWN = """
layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 2 dim: 3 }
  data_filler { type: "gaussian" } } }
layer { name: "s" type: "Sigmoid" bottom: "x" top: "y" }
"""
MIXED = f"""
base_lr: 0.1 lr_policy: "fixed" snapshot_after_train: false random_seed: 3 max_iter: 6
test_iter: 3 test_iter: 3 test_interval: 2 test_initialization: true
train_net_param {{ {RANDOM} }} test_net_param {{ {DRAWN} }} test_net_param {{ {RANDOM} }}
"""


def stops_in_a_test(rank: int, count: int, uid: bytes, asked: int) -> tuple[int, bool]:
    """A process is asked to stop while the first alone runs a net whose batches nobody shares."""
    message = parse_text(MIXED, caffe_pb2.SolverParameter)
    team = join_team(uid, rank, count, CPU, patience_s=30)
    solver = Solver(message, team=team)
    run = solver._tests.run

    def stop(*args: Any) -> Any:
        solver.requests.stop = rank == asked
        return run(*args)

    solver._tests.run = stop  # type: ignore[method-assign, assignment]
    solver.solve()
    solver.close()
    return solver.iteration, team.is_connected


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("asked", [0, 1])
def test_all_give_up_a_test_that_one_is_asked_to_stop(
    asked: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = run_together(stops_in_a_test, asked, uid=new_uid(), patience_s=40)
    assert ended == [(0, False)] * 2


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
