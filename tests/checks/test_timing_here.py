from __future__ import annotations

from typing import Any

import torch
from tests.processes import run_together
from tests.training_runs import solver_message

from moka.checks.timing_here import measured_link, measured_step
from moka.parallel.join import join_team, new_uid
from moka.solver.solver import Solver


def test_a_step_is_measured_and_leaves_no_hooks() -> None:
    solver = Solver(solver_message("display: 1 snapshot: 1 test_interval: 0"))
    calls: list[bool] = []

    def ends(enough: bool) -> bool:
        calls.append(enough)
        return len(calls) == 5

    step = measured_step(solver, ends)
    assert len(calls) == solver.iteration + 1 == 5
    assert step.whole_s > 0
    assert step.core_s > 0
    (bucket,) = step.buckets
    assert bucket.size == 4 * (3 + 1)
    assert 0 <= bucket.left_s < step.whole_s
    assert solver.on_gradients_ready == []
    solver.close()


def link(rank: int, count: int, uid: bytes) -> Any:
    team = join_team(uid, rank, count, torch.device("cpu"), patience_s=30)
    return measured_link(team, 1 << 16)


def test_messages_are_measured() -> None:
    for found in run_together(link, uid=new_uid()):
        assert found.rings_only
        assert found.latency_s > 0
        assert found.bytes_s > 0
        assert found.core_s > 0
