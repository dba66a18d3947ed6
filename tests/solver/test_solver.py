from __future__ import annotations

import os
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch
from tests.training_runs import NETS
from torch import Tensor

from moka.errors import SolverError, WeightsError
from moka.net import Net
from moka.report.records import (
    BestSnapshotWritten,
    EarlyStop,
    FinalLoss,
    IterationCompleted,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)
from moka.schema import caffe_pb2, parse_text
from moka.solver.rules import RULES
from moka.solver.snapshots.state_file import read_state
from moka.solver.solver import Solver
from moka.weights import load_weights

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def weights(solver: Solver) -> list[Tensor]:
    return [w.detach().clone() for layer in solver.net.layers for w in layer.weights]


def iterations(records: list[Record]) -> list[IterationCompleted]:
    return [r for r in records if isinstance(r, IterationCompleted)]


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


def test_only_what_is_due_is_announced(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("max_iter: 3 test_iter: 1 test_interval: 2", records=records).solve()
    names = [type(r).__name__ for r in records]
    wanted = ["SolvingStarted", "IterationCompleted", "IterationCompleted", "TestStarted"]
    assert names == [*wanted, "TestCompleted", "IterationCompleted", "SolvingCompleted"]
    assert os.listdir() == []


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
            "(given message): base_lr is missing: at a rate of 0 nothing is learnt."
        ]


@pytest.mark.parametrize("type", RULES)
def test_a_net_without_parameters(make_solver: SolverMaker, type: str) -> None:
    solver = make_solver(
        f'type: "{type}" max_iter: 2 iter_size: 2 clip_gradients: 1 clip_value: 1 ema_decay: 0.9',
        net="no_parameters",
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


def test_a_test_is_the_mean_over_its_batches(make_solver: SolverMaker, database: str) -> None:
    records: list[Record] = []
    solver = make_solver(
        "test_iter: 5 test_interval: 1 test_compute_loss: true", net="plain", records=records
    )
    solver.test_all()
    (result,) = (r for r in records if isinstance(r, TestCompleted))
    losses = [solver.net(**batch(solver.net))["loss"].item() for _ in range(5)]
    assert [o.name for o in result.outputs] == ["loss"]
    assert result.outputs[0].value == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)


def batch(net: Net) -> dict[str, Tensor]:
    """The next batch of a net's first layer."""
    return dict(zip(net.graph.nodes[0].tops, net.run_layer(net.places[0], ()), strict=True))


def test_test_nets_use_the_parameters_that_are_trained(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("test_iter: 1 test_interval: 1 max_iter: 30", records=records)
    solver.solve()
    tests = [r.outputs[0].value for r in records if isinstance(r, TestCompleted)]
    assert len(tests) == 30
    assert all(later < earlier for earlier, later in pairwise(tests))


def test_snapshots_fall_due(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("snapshot: 2 max_iter: 5 snapshot_after_train: true", records=records)
    solver.solve()
    found = [r for r in records if isinstance(r, SnapshotWritten)]
    assert [r.iteration for r in found] == [2, 4, 5]
    assert {name for r in found for name in (r.model_file, r.state_file)} == set(os.listdir())


def test_a_snapshot_that_is_due_at_the_end_is_made_once(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    make_solver("snapshot: 2 max_iter: 4 snapshot_after_train: true", records=records).solve()
    found = [r for r in records if isinstance(r, SnapshotWritten)]
    assert [r.iteration for r in found] == [2, 4]


def test_a_request_to_stop(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("max_iter: 100 display: 1 snapshot_after_train: true", records=records)

    def listen(record: Record) -> None:
        if isinstance(record, IterationCompleted) and record.iteration == 3:
            solver.stop_requested = True

    solver.listeners.append(listen)
    solver.solve()
    assert solver.iteration == 4
    assert [type(r).__name__ for r in records[-2:]] == ["SnapshotWritten", "SolvingCompleted"]
    end = records[-1]
    assert isinstance(end, SolvingCompleted)
    assert end.stopped_early
    assert Path("snap_iter_4.solverstate").exists()


def test_a_request_for_a_snapshot(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(records=records)
    solver.snapshot_requested = True
    solver.step(3)
    found = [r for r in records if isinstance(r, SnapshotWritten)]
    assert [r.iteration for r in found] == [1]
    assert solver.iteration == 3


@pytest.mark.parametrize("resumed", [False, True])
def test_a_loss_that_is_no_number(make_solver: SolverMaker, resumed: bool) -> None:
    solver = make_solver("snapshot: 2 base_lr: 1e-30")
    solver.step(2)
    kept = weights(solver)
    files = {name: Path(name).read_bytes() for name in os.listdir()}
    if resumed:
        solver = make_solver()
        solver.restore("snap_iter_2.solverstate")
    # One that no finite loss has followed may be what the divergence comes from.
    said = "last good snapshot is" if resumed else "last snapshot,"
    with torch.no_grad():
        (data,) = (source for _, source in solver.net.sources)
        data()[0].fill_(torch.nan)  # the constant that it hands out each time
    with pytest.raises(
        SolverError, match=rf"loss is nan at iteration 2: .*{said} snap_iter_2\.caf"
    ):
        solver.step(10)
    assert solver.iteration == 2
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), kept, strict=True))
    assert Path("snap_iter_2.replay").exists()
    os.unlink("snap_iter_2.replay")
    assert {name: Path(name).read_bytes() for name in os.listdir()} == files


def test_a_loss_that_is_no_number_before_any_snapshot(make_solver: SolverMaker) -> None:
    solver = make_solver("base_lr: 1e30")
    with pytest.raises(SolverError, match="No snapshot has been made yet"):
        solver.step(10)


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
    averages = straight._progress.average, resumed._progress.average
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


def test_the_run_that_is_resumed_is_random(make_solver: SolverMaker, database: str) -> None:
    """Were it not, the test above would say little."""
    one = trained(make_solver, "random_seed: 3", stop_at=None)
    other = trained(make_solver, "random_seed: 4", stop_at=None)
    assert not torch.equal(weights(one)[0], weights(other)[0])


def test_a_seed_fixes_a_run(make_solver: SolverMaker, database: str) -> None:
    one = trained(make_solver, "random_seed: 4", stop_at=None)
    other = trained(make_solver, "random_seed: 4", stop_at=None)
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


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


def test_weights_to_finetune_from(make_solver: SolverMaker) -> None:
    source = make_solver("random_seed: 11")
    model, _ = source.snapshot()
    solver = make_solver(f'random_seed: 12 weights: "{model}"')
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), weights(source), strict=True))


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


def test_a_prefix_that_cannot_be_written_is_refused_before_training(
    make_solver: SolverMaker,
) -> None:
    Path("a_file").touch()
    with pytest.raises(SolverError, match="'a_file/snap': Not a directory"):
        make_solver('snapshot: 2 snapshot_prefix: "a_file/snap"')
    make_solver('snapshot_prefix: "a_file/snap"')  # no snapshots are asked for


def test_the_given_message_is_not_changed(make_solver: SolverMaker) -> None:
    solver = make_solver("max_iter: 1")
    again = Solver(solver.config)
    again.config.max_iter = 7
    assert solver.config.max_iter == 1
    again.close()


def test_parameters_that_are_no_numbers_are_not_saved(make_solver: SolverMaker) -> None:
    solver = make_solver("snapshot: 1 base_lr: 1e38 weight_decay: 1e9")
    with pytest.raises(SolverError, match="a parameter is not a finite number at iteration"):
        solver.step(5)
    for name in os.listdir():
        if name.endswith(".caffemodel"):
            load_weights(solver.net, [name])
            assert all(w.isfinite().all() for w in weights(solver))


def test_a_test_goes_on_with_its_own_data_after_resuming(
    make_solver: SolverMaker, database: str
) -> None:
    text = "test_iter: 1 test_interval: 2"
    straight: list[Record] = []
    make_solver(text, "plain", straight).step(5)
    solver = make_solver(text, "plain")
    solver.step(3)
    _, state = solver.snapshot()
    resumed: list[Record] = []
    solver = make_solver(text, "plain", resumed)
    solver.restore(state)
    solver.step(2)
    last = [r for r in straight if isinstance(r, TestCompleted)][-1]
    assert [r for r in resumed if isinstance(r, TestCompleted)] == [last]
    assert last.iteration == 4


def test_shuffled_hdf5_data_goes_on_after_resuming(make_solver: SolverMaker) -> None:
    with h5py.File("rows.h5", "w") as file:
        file["x"] = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
        file["t"] = np.arange(7, dtype=np.float32)[:, None]
    Path("rows.txt").write_text("rows.h5")
    runs = []
    for stop_at in (None, 4):
        solver = make_solver(net="hdf5")
        if stop_at:
            solver.step(stop_at)
            _, state = solver.snapshot()
            solver = make_solver("random_seed: 9", net="hdf5")
            solver.restore(state)
        solver.step(9 - solver.iteration)
        runs.append(weights(solver))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_sequences_go_on_after_resuming(make_solver: SolverMaker) -> None:
    text = "test_iter: 1 test_interval: 2 momentum: 0.5"
    straight: list[Record] = []
    make_solver(text, "recurrent", straight).step(5)
    solver = make_solver(text, "recurrent")
    solver.step(3)
    _, state = solver.snapshot()
    resumed: list[Record] = []
    solver = make_solver("random_seed: 9 " + text, "recurrent", resumed)
    solver.restore(state)
    solver.step(2)
    assert [r.loss for r in iterations(resumed)] == [r.loss for r in iterations(straight)][3:]
    tests = [r for r in straight if isinstance(r, TestCompleted)]
    assert [r for r in resumed if isinstance(r, TestCompleted)] == tests[-1:]


def test_a_test_net_that_cannot_share_is_refused_before_training(
    make_solver: SolverMaker,
) -> None:
    other = """
layer { name: "data" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
"""
    with pytest.raises(WeightsError, match=r"layer 'ip': .*\(1, 2\).*TEST.*\(1, 3\).*TRAIN"):
        make_solver(f"test_iter: 1 test_interval: 5 test_net_param {{ {other} }}")


def test_a_request_to_stop_ends_a_long_test(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(
        "test_iter: 1000 test_interval: 1 test_initialization: true", records=records
    )
    solver.listeners.append(lambda _: setattr(solver, "stop_requested", True))
    solver.step(3)
    assert [type(record) for record in records] == [TestStarted]


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


def test_averaged_weights_lie_beside_each_snapshot(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("ema_decay: 0.75", records=records)
    solver.step(1)
    wanted = weights(solver)
    for _ in range(3):
        solver.step(1)
        wanted = [0.75 * a + 0.25 * w for a, w in zip(wanted, weights(solver), strict=True)]
    files = solver.snapshot()
    assert records[-1] == SnapshotWritten(4, *files, "snap_iter_4.ema.caffemodel")
    fresh = make_solver()
    load_weights(fresh.net, ["snap_iter_4.ema.caffemodel"])
    for a, b in zip(weights(fresh), wanted, strict=True):
        torch.testing.assert_close(a, b)
    load_weights(fresh.net, [files[0]])
    for a, b in zip(weights(fresh), weights(solver), strict=True):
        assert torch.equal(a, b)


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


def test_tests_with_averaged_weights(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    text = "test_iter: 1 test_interval: 100 ema_decay: 0.75"
    solver = make_solver(f"{text} test_with_ema: true", records=records)
    solver.step(4)
    before = weights(solver)
    solver.test_all()
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), before, strict=True))
    solver.snapshot()
    plain: list[Record] = []
    other = make_solver(text, records=plain)
    load_weights(other.net, ["snap_iter_4.ema.caffemodel"])
    other.test_all()
    (got,), (wanted,) = (
        [r.outputs for r in rs if isinstance(r, TestCompleted)] for rs in (records, plain)
    )
    assert got == wanted
    load_weights(other.net, ["snap_iter_4.caffemodel"])
    other.test_all()
    assert [r.outputs for r in plain if isinstance(r, TestCompleted)][-1] != wanted


BEST = 'snapshot_best: "loss" test_iter: 1 test_interval: 2 test_initialization: true'


def test_the_best_snapshot(make_solver: SolverMaker) -> None:
    """The loss of this net falls all the time."""
    records: list[Record] = []
    solver = make_solver(f"{BEST} max_iter: 4 ema_decay: 0.5", records=records)
    solver.solve()
    tests = [r.outputs[0].value for r in records if isinstance(r, TestCompleted)]
    found = [r for r in records if isinstance(r, BestSnapshotWritten)]
    assert found == [
        BestSnapshotWritten(t, "loss", value, "snap_best.caffemodel")
        for t, value in zip((0, 2, 4), tests, strict=True)
    ]
    names = ("snap_best.caffemodel", "snap_best.ema.caffemodel", "snap_best.solverstate")
    assert sorted(os.listdir()) == sorted(names)
    state = read_state("snap_best.solverstate")
    assert (state.iter, state.learned_net) == (4, "snap_best.caffemodel")
    assert state.run_state.averaged_net == "snap_best.ema.caffemodel"
    fresh = make_solver()
    load_weights(fresh.net, ["snap_best.caffemodel"])
    for a, b in zip(weights(fresh), weights(solver), strict=True):
        assert torch.equal(a, b)


def test_what_is_worse_is_not_kept(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver(f"{BEST} snapshot_best_is: HIGHER early_stop: 3", records=records)
    solver.step(100)
    assert [r.iteration for r in records if isinstance(r, BestSnapshotWritten)] == [0]
    assert read_state("snap_best.solverstate").iter == 0
    assert solver.iteration == 6
    first = next(r.outputs[0].value for r in records if isinstance(r, TestCompleted))
    assert records[-1] == EarlyStop(6, 3, "loss", first, 0)


def test_an_early_stop_ends_a_run_in_order(make_solver: SolverMaker) -> None:
    text = f"{BEST} snapshot_best_is: HIGHER max_iter: 100 snapshot_after_train: true"
    records: list[Record] = []
    make_solver(f"{text} early_stop: 2", records=records).solve()
    names = [type(r).__name__ for r in records[-3:]]
    assert names == ["EarlyStop", "SnapshotWritten", "SolvingCompleted"]
    end = records[-1]
    assert isinstance(end, SolvingCompleted)
    assert end.stopped_early
    # Resumed as it was it stops at once; with more patience it goes on where it was.
    del records[:]
    solver = make_solver(f"{text} early_stop: 2", records=records)
    solver.solve("snap_iter_4.solverstate")
    assert solver.iteration == 4
    assert not iterations(records)
    solver = make_solver(f"{text} early_stop: 3", records=records)
    solver.solve("snap_iter_4.solverstate")
    assert solver.iteration == 6
    assert [r.iteration for r in records if isinstance(r, TestStarted)] == [6]


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


def test_a_best_output_that_is_not_there_is_refused_before_training(
    make_solver: SolverMaker,
) -> None:
    with pytest.raises(SolverError, match=r'no test net has an output lose .*Did you mean "loss"'):
        make_solver('snapshot_best: "lose" test_iter: 1 test_interval: 2')


def test_a_best_snapshot_needs_a_prefix_that_can_be_written(make_solver: SolverMaker) -> None:
    Path("a_file").touch()
    with pytest.raises(SolverError, match="'a_file/snap': Not a directory"):
        make_solver(f'{BEST} snapshot_prefix: "a_file/snap"')


def debug_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """First words of the lines that debug_info asks for, and the summaries."""
    messages = [r.getMessage().strip() for r in caplog.records]
    kinds = [m.split("]")[0].strip("[") + ("!" if "All net" in m else "") for m in messages
             if m.startswith(("[Forward]", "[Backward]"))]  # fmt: skip
    return [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]


PASS = ["Forward", "Backward", "Backward!"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("max_iter: 3 display: 1", [*PASS * 3, "Forward"]),
        ("max_iter: 4 display: 2", PASS * 2),  # iteration 3 turned it off for the last loss
        ("max_iter: 2 display: 1 iter_size: 2", [*PASS * 4, "Forward"]),
        ("max_iter: 2", []),
        # A test net logs each pass, displayed or not.
        ("max_iter: 2 test_iter: 2 test_interval: 1", ["Forward"]),
        (
            "max_iter: 2 test_iter: 1 test_interval: 1 display: 2",
            [*PASS, "Forward"],
        ),
    ],
)
def test_debug_info(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture, text: str, wanted: list[str]
) -> None:
    caplog.set_level("INFO", "moka")
    make_solver(f"debug_info: true {text}").solve()
    assert debug_lines(caplog) == wanted
    caplog.clear()
    make_solver(text).solve()
    assert debug_lines(caplog) == []


def test_the_solver_overrules_the_debug_info_of_its_nets(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "moka")
    monkeypatch.setitem(NETS, "debug", "debug_info: true" + NETS["linear"])
    make_solver("max_iter: 2 display: 1 test_iter: 1 test_interval: 1", net="debug").solve()
    assert debug_lines(caplog) == []


def test_debug_info_changes_no_number(make_solver: SolverMaker, database: str) -> None:
    runs = []
    for debug_info in ("false", "true"):
        solver = make_solver(f"debug_info: {debug_info} display: 1 momentum: 0.9", net="random")
        solver.step(5)
        runs.append(weights(solver))
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)  # float32, another order


def test_a_net_without_a_loss_is_warned_of(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_solver()
    assert not caplog.messages
    net = """
      layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }
      layer { name: "s" type: "Scale" bottom: "x" top: "y" scale_param { axis: 0 } }
    """
    config = parse_text(
        f'base_lr: 1 lr_policy: "fixed" net_param {{ {net} }}', caffe_pb2.SolverParameter
    )
    solver = Solver(config, file="s.prototxt")
    assert caplog.messages == ["s.prototxt: the train net has no loss: nothing is learnt."]
    before = weights(solver)
    solver.step(2)
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), before, strict=True))
