from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.training_runs import iterations, weights

from moka.errors import SolverError
from moka.huge_pages import NewMemory
from moka.parallel.pace import Slowest
from moka.report.records import (
    FinalLoss,
    Record,
    SolvingCompleted,
    SolvingStarted,
    TestStarted,
)
from moka.solver import solver as solver_module
from moka.solver.choose import RULES
from moka.solver.snapshots.state_file import read_state
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def test_everything_is_announced_in_order(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(
        "max_iter: 4 display: 2 test_iter: 1 test_interval: 2 snapshot: 3"
        " test_initialization: true snapshot_after_train: true",
        records=records,
    )
    solver.solve()
    assert [(type(r).__name__, r.iteration) for r in records] == [
        ("SolvingStarted", 0),
        ("TestStarted", 0),
        ("TestCompleted", 0),
        ("IterationCompleted", 0),
        ("IterationCompleted", 1),
        ("TestStarted", 2),
        ("TestCompleted", 2),
        ("IterationCompleted", 2),
        ("SnapshotWritten", 3),  # counted after the update
        ("IterationCompleted", 3),
        ("SnapshotWritten", 4),
        ("FinalLoss", 4),
        ("TestStarted", 4),
        ("TestCompleted", 4),
        ("SolvingCompleted", 4),
    ]
    assert records[0] == SolvingStarted("linear", "fixed", 0, 4)
    end = records[-1]
    assert isinstance(end, SolvingCompleted)
    assert not end.stopped_early
    assert 0 <= end.waited_s <= end.elapsed_s


@pytest.mark.usefixtures("database")
def test_what_iterations_have_waited_is_what_the_run_has(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("max_iter: 5", net="plain", records=records).solve()
    (end,) = (r for r in records if isinstance(r, SolvingCompleted))
    waited_s = [r.waited_s for r in iterations(records)]
    assert len(waited_s) == 5
    assert min(waited_s) > 0
    assert sum(waited_s) == pytest.approx(end.waited_s, rel=1e-9)


def test_only_what_is_due_is_announced(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("max_iter: 3 test_iter: 1 test_interval: 2", records=records).solve()
    names = [type(r).__name__ for r in records]
    wanted = ["SolvingStarted", "IterationCompleted", "IterationCompleted", "TestStarted"]
    assert names == [*wanted, "TestCompleted", "IterationCompleted", "SolvingCompleted"]
    assert os.listdir() == []


def test_the_slowest_process_is_asked_for_where_an_iteration_is_displayed(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[Record] = []
    solver = make_solver("display: 3", records=records)
    found = Slowest(1, "there", 0.5, 0.25)
    monkeypatch.setattr(solver._together.pace, "compare", lambda: found)
    solver.step(5)
    assert [r.slowest for r in iterations(records)] == [found, None, None, found, None]


def test_display(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("display: 3", records=records).step(7)
    found = iterations(records)
    assert [r.displayed for r in found] == [True, False, False, True, False, False, True]
    assert [len(r.outputs) for r in found] == [1, 0, 0, 1, 0, 0, 1]
    assert found[3].outputs[0].name == "loss"
    assert found[3].outputs[0].value == pytest.approx(found[3].loss)
    assert found[3].outputs[0].loss_weight == 1.0
    assert [r.lapse_iterations for r in found if r.displayed] == [0, 3, 3]


def test_the_first_losses_and_updates_are_those_of_the_formula(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("momentum: 0.9", records=records)
    w, b = (p.numpy().astype(np.float64).ravel() for p in weights(solver))
    h = np.zeros(4)
    losses = []
    x, t = np.full(3, 0.5), 2.0
    for _ in range(5):
        error = w @ x + b[0] - t
        losses.append(error**2 / 2)
        h = 0.9 * h + 0.1 * error * np.array([*x, 1.0])
        w, b = w - h[:3], b - h[3:]
    solver.step(5)
    # Float32 sums of four terms.
    assert [r.loss for r in iterations(records)] == pytest.approx(losses, rel=1e-5)
    got = np.concatenate([p.numpy().ravel() for p in weights(solver)])
    np.testing.assert_allclose(got, [*w, *b], rtol=1e-5)


def test_rates_and_stages(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(
        'lr_policy: "multistep" gamma: 0.5 stepvalue: 2 stepvalue: 3', records=records
    )
    assert solver.rate == pytest.approx(0.1)
    solver.step(5)
    found = iterations(records)
    assert [r.rate for r in found] == pytest.approx([0.1, 0.1, 0.05, 0.025, 0.025])
    assert [r.stage for r in found] == [None, None, 1, 2, None]
    assert solver.rate == pytest.approx(0.025)


def test_clipping_is_announced(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("clip_gradients: 0.001", records=records).step(1)
    (record,) = iterations(records)
    assert record.clipped is not None
    norm, limit = record.clipped
    assert limit == pytest.approx(0.001)
    assert norm > limit


def test_a_rate_that_is_missing_is_warned_of(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    given = make_solver("base_lr: 0").config
    assert not caplog.messages
    given.ClearField("base_lr")
    with closing(Solver(given)):
        assert caplog.messages == [
            "(given message): base_lr is missing: at a rate of 0 nothing is learned."
        ]


@pytest.mark.parametrize("type", RULES)
@pytest.mark.parametrize("keep_blobs", [False, True])
def test_a_net_without_parameters(make_solver: SolverMaker, type: str, keep_blobs: bool) -> None:
    solver = make_solver(
        f'type: "{type}" max_iter: 2 iter_size: 2 clip_gradients: 1 clip_value: 1 ema_decay: 0.9',
        net="no_parameters",
        keep_blobs=keep_blobs,
    )
    solver.solve()
    assert solver.iteration == 2


def test_average_loss(make_solver: SolverMaker) -> None:
    single: list[Record] = []
    averaged: list[Record] = []
    make_solver(records=single).step(5)
    make_solver("average_loss: 3", records=averaged).step(5)
    losses = [r.loss for r in iterations(single)]
    wanted = [np.mean(losses[max(0, i - 2) : i + 1]) for i in range(5)]
    assert [r.loss for r in iterations(averaged)] == pytest.approx(wanted)


def test_final_loss_is_of_the_trained_net(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("max_iter: 2 display: 1", records=records).solve()
    (final,) = (r for r in records if isinstance(r, FinalLoss))
    losses = [r.loss for r in iterations(records)]
    # Each step takes away lr * |(x, 1)|^2 = 0.1 * 1.75 of the error, of which the loss is a square.
    assert final.loss / losses[1] == pytest.approx((1 - 0.175) ** 2, rel=1e-4)


def test_iter_size_is_a_larger_batch(make_solver: SolverMaker, database: str) -> None:
    text = 'lr_policy: "exp" gamma: 0.5 momentum: 0.9 weight_decay: 0.1'
    small: list[Record] = []
    large: list[Record] = []
    one = make_solver(f"{text} iter_size: 5", net="plain", records=small)
    other = make_solver(text, net="plain_20", records=large)
    one.step(4)
    other.step(4)
    # The same twenty images, summed in another order.
    assert [r.loss for r in iterations(small)] == pytest.approx(
        [r.loss for r in iterations(large)], rel=1e-5
    )
    for a, b in zip(weights(one), weights(other), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_keep_blobs_leaves_all_data_and_the_updates(make_solver: SolverMaker) -> None:
    solver = make_solver("momentum: 0.9 weight_decay: 0.1", keep_blobs=True)
    for _ in range(3):
        before = weights(solver)
        solver.step(1)
        for old, new, blob in zip(before, weights(solver), solver.net.layer_blobs(1), strict=True):
            np.testing.assert_array_equal(old.numpy() - blob.diff, new.numpy())
        w, b = (p.numpy() for p in before)
        np.testing.assert_allclose(
            solver.net.blobs["y"].data, solver.net.blobs["x"].data @ w.T + b, rtol=1e-6
        )


def test_the_given_message_is_not_changed(make_solver: SolverMaker) -> None:
    solver = make_solver("max_iter: 1")
    again = Solver(solver.config)
    again.config.max_iter = 7
    assert solver.config.max_iter == 1
    again.close()


def test_max_iter_has_to_make_sense(make_solver: SolverMaker) -> None:
    with pytest.raises(SolverError, match="max_iter must be >= 0, got -5"):
        make_solver("max_iter: -5")


def test_mixed_precision_trains_weights_in_single_precision(
    make_solver: SolverMaker, database: str
) -> None:
    records: list[Record] = []
    plain: list[Record] = []
    solver = make_solver("momentum: 0.9 precision: BF16", net="plain_20", records=records)
    solver.step(20)
    make_solver("momentum: 0.9", net="plain_20", records=plain).step(20)
    losses = [r.loss for r in iterations(records)]
    assert losses[-1] < losses[0]
    wanted = [r.loss for r in iterations(plain)]
    assert losses != wanted
    assert losses == pytest.approx(wanted, rel=2e-2)  # bfloat16 has 8 bits
    assert {w.dtype for w in weights(solver)} == {torch.float32}
    assert {h.dtype for h in solver._rule.history()} == {torch.float32}


def test_plateaus_lower_the_rate(make_solver: SolverMaker) -> None:
    """A rate of 0 keeps the loss where it is."""
    records: list[Record] = []
    text = 'lr_policy: "plateau" gamma: 0.5 plateau_winsize: 3 plateau_winsize: 2'
    solver = make_solver(f"{text} base_lr: 1e-30", records=records)
    solver.step(8)
    found = iterations(records)
    assert [(r.iteration, r.plateau) for r in found if r.plateau is not None] == [(3, 1), (5, 2)]
    rates = [1e-30] * 3 + [5e-31] * 2 + [2.5e-31] * 3
    assert [r.rate for r in found] == pytest.approx(rates, rel=1e-6, abs=0)
    assert all(r.stage is None for r in found)
    assert read_state(solver.snapshot()[1]).current_step == 2


def test_tests_come_later_by_an_offset(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(
        "test_iter: 1 test_interval: 4 test_offset: 1 test_initialization: true max_iter: 10",
        records=records,
    )
    solver.solve()
    assert [r.iteration for r in records if isinstance(r, TestStarted)] == [1, 5, 9]


def test_passes_without_updates(make_solver: SolverMaker) -> None:
    solver = make_solver("disabled_update: true momentum: 0.9")
    before = weights(solver)
    solver.step(3)
    assert solver.iteration == 3
    for a, b in zip(before, weights(solver), strict=True):
        assert torch.equal(a, b)


def test_memory_of_the_first_iterations_goes_to_large_pages(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    added = [(0, 1)]
    asked: list[object] = []
    monkeypatch.setattr(solver_module, "put_on_large_pages", asked.append)
    monkeypatch.setattr(NewMemory, "ranges", lambda _: added)
    solver = make_solver()
    solver.step(solver_module.PAYS_LARGE_PAGES)
    assert asked == []
    solver.step(20)
    assert asked == [added]


def test_large_pieces_of_memory_are_kept_once_iterations_are_alike(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, bool]] = []
    solver = make_solver()
    monkeypatch.setattr(
        solver_module, "keep_large_pieces", lambda keep: told.append((solver.iteration, keep))
    )
    solver.step(4)
    solver.step(8)
    assert told == [(0, False), (5, True)]
    assert solver.engine.recorded is not None
    assert solver.engine.recorded.captured.recordings == 1


@pytest.mark.usefixtures("database")
def test_gradients_set_by_hand_may_lie_in_memory_in_any_order(make_solver: SolverMaker) -> None:
    solvers = [make_solver("momentum: 0.9", net="plain") for _ in range(2)]
    for solver, is_turned in zip(solvers, (False, True), strict=True):
        for p in solver.net.parameters():
            values = torch.arange(p.numel(), dtype=torch.float32).view(p.shape)
            p.grad = values.mT.contiguous().mT if is_turned and p.dim() > 1 else values
        solver.apply_update()
    for ours, theirs in zip(*(s.net.parameters() for s in solvers), strict=True):
        assert torch.equal(ours, theirs)
