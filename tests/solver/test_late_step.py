"""Steps that are queued before the host looks: the numbers of ordinary ones, and no host reads."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.solver.late_nets import KINDS
from tests.solver.ways import in_this_way, runs_of
from tests.training_runs import NETS, iterations, weights

from moka.engine.host_reads import noting_host_reads
from moka.errors import DataError, SolverError
from moka.layers import registry
from moka.layers.base import Layer
from moka.parallel.team import Alone
from moka.report.records import Record
from moka.solver.choose import RULES
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker

FIELDS = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-6",
    "Adam": "momentum: 0.9 momentum2: 0.99 weight_decay: 0.01",
    "AdamW": "momentum: 0.9 momentum2: 0.99 weight_decay: 0.01",
    "LARS": "momentum: 0.9",
}
SIX = ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")
every_net = pytest.mark.parametrize("kind", KINDS)
every_type = pytest.mark.parametrize("solver_type", RULES)
both_ways = pytest.mark.parametrize("way", ["late", "recorded"])


@pytest.fixture
def reads_back() -> Iterator[None]:
    """A layer type that looks at its values."""
    before = dict(registry._entries)

    @registry.layer("ReadsBack", bottoms=1, tops=1)
    class ReadsBack(Layer):
        """Twice the bottom."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * (2 if x.sum().item() < 1e9 else 3)

    yield
    registry._entries.clear()
    registry._entries.update(before)


@pytest.fixture(autouse=True)
def _nets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in KINDS.items():
        monkeypatch.setitem(NETS, name, text)


def run(solver: Solver, records: list[Record], steps: int = 6) -> list[float]:
    """Train; losses as they were announced, and what the gradients were clipped to."""
    torch.manual_seed(7)
    solver.step(steps)
    clipped = [r.clipped[0] if r.clipped else 0.0 for r in iterations(records)]
    return [*(r.loss for r in iterations(records)), *clipped]


def same_run(make_solver: SolverMaker, text: str, kind: str, way: str) -> Solver:
    """Hold a run in this way to an ordinary one; returns its solver."""
    wanted: list[Record] = []
    found: list[Record] = []
    ordinary = make_solver(text, net=kind, records=wanted)
    solver = in_this_way(make_solver(text, net=kind, records=found), way)
    assert run(solver, found) == pytest.approx(run(ordinary, wanted), rel=1e-5, abs=1e-6)
    for mine, theirs in zip(weights(solver), weights(ordinary), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    histories = solver.rule.history(), ordinary.rule.history()
    torch.testing.assert_close(*histories, rtol=1e-4, atol=1e-6)
    return solver


@both_ways
@every_type
def test_each_solver_type_gives_the_same_numbers(
    make_solver: SolverMaker, solver_type: str, way: str
) -> None:
    text = f'type: "{solver_type}" base_lr: 0.01 lr_policy: "inv" gamma: 0.1 power: 0.75'
    solver = same_run(make_solver, f"{text} {FIELDS[solver_type]}", "BatchNorm", way)
    assert way == "late" or runs_of(solver) == 5  # the first pass is watched


@both_ways
@every_net
def test_each_kind_of_net_gives_the_same_numbers(
    make_solver: SolverMaker, kind: str, way: str
) -> None:
    same_run(make_solver, "base_lr: 0.05 momentum: 0.9", kind, way)


@both_ways
@pytest.mark.parametrize(
    "more",
    [
        "clip_gradients: 0.5",
        "clip_gradients: 1000",
        "clip_value: 0.01",
        "momentum: 0 weight_decay: 0.1",
        "iter_size: 2",
        'weight_decay: 0.1 regularization_type: "L1"',
        "clip_weights: 0.3",
        "adamw_decay: 0.1",
        'momentum: 0.5 momentum_policy: "opt"',
        'weight_decay: 0.1 weight_decay_policy: "poly" weight_decay_power: 1 max_iter: 9',
        'lr_policy: "plateau" gamma: 0.5 plateau_winsize: 1',
        "ema_decay: 0.5",
        "disabled_update: true",
        "larc: true larc_eta: 0.1 larc_turbo: true",
        'lr_policy: "multistep" gamma: 0.1 stepvalue: 2 stepvalue: 4',
    ],
)
def test_each_option_gives_the_same_numbers(make_solver: SolverMaker, more: str, way: str) -> None:
    given = "" if "momentum:" in more else "momentum: 0.9"
    same_run(make_solver, f"base_lr: 0.05 {given} {more}", "LeNet", way)


@both_ways
def test_functions_of_the_user_see_the_gradients(make_solver: SolverMaker, way: str) -> None:
    solver = in_this_way(make_solver("base_lr: 0.05", net="LeNet"), way)
    before = weights(solver)
    seen: list[bool] = []

    def look() -> None:
        grads = [p.grad for p in solver.net.parameters() if p.grad is not None]
        unchanged = all(map(torch.equal, weights(solver), before))
        seen.append(unchanged and any(bool(g.any()) for g in grads))

    solver.on_gradients_ready.append(look)
    solver.step(1)
    assert seen == [True]
    assert not all(map(torch.equal, weights(solver), before))


def test_a_setting_that_changes_is_recorded_anew(make_solver: SolverMaker) -> None:
    ordinary = make_solver("base_lr: 0.05 momentum: 0.9", net="LeNet")
    solver = in_this_way(make_solver("base_lr: 0.05 momentum: 0.9", net="LeNet"), "recorded")
    for each in (ordinary, solver):
        torch.manual_seed(7)
        each.step(3)
        each.config.momentum = 0.5
        each.step(3)
    assert solver.late_step.captured is not None
    assert solver.late_step.captured.recordings == 2
    for mine, theirs in zip(weights(solver), weights(ordinary), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


# --- labels -------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize(
    ("kind", "blob", "value", "said"),
    [
        ("LeNet", "label", 7.0, r'layer "(loss|accuracy)" .*: label 7 is outside of the 3 classes'),
        ("LeNet", "label", -1.0, r"label -1 is outside of the 3 classes \(0 to 2\)"),
    ],
)
def test_a_label_out_of_range_is_told_once_and_changes_nothing(
    make_solver: SolverMaker, way: str, kind: str, blob: str, value: float, said: str
) -> None:
    solver = in_this_way(make_solver("base_lr: 0.05 momentum: 0.9", net=kind), way)
    solver.step(3)
    solver.net.blobs[blob].data[...] = value
    before = [t.clone() for t in (*weights(solver), *solver.rule.history())]
    with pytest.raises(DataError, match=said):
        solver.step(1)
    after = [*weights(solver), *solver.rule.history()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


# --- host reads ---------------------------------------------------------------------------


def reads_of_a_step(solver: Solver) -> list[str]:
    """What makes the host wait between the batch and the last kernel of an iteration."""
    found: list[str] = []
    queue = solver.late_step.queue_pass

    def watched(*args: Any, **more: Any) -> Any:
        with noting_host_reads() as reads:
            result = queue(*args, **more)
        found.extend(reads.found)
        return result

    solver.late_step.queue_pass = watched  # type: ignore[method-assign]
    solver.step(2)
    return found


@every_net
@pytest.mark.parametrize("solver_type", SIX)
def test_no_step_reads_anything_back(make_solver: SolverMaker, kind: str, solver_type: str) -> None:
    text = f'type: "{solver_type}" base_lr: 0.01 clip_gradients: 1 {FIELDS[solver_type]}'
    solver = in_this_way(make_solver(text, net=kind), "late")
    assert reads_of_a_step(solver) == []


@every_net
@pytest.mark.parametrize("solver_type", SIX)
def test_a_step_needs_no_values_at_all(
    make_solver: SolverMaker, kind: str, solver_type: str
) -> None:
    """On the meta device there are none, so whoever wants one fails."""
    fields = FIELDS[solver_type] if solver_type != "SGD" else ""  # fused SGD is for real devices
    message = make_solver(f'type: "{solver_type}" base_lr: 0.01 {fields}', net=kind).config
    solver = Solver(message, device=torch.device("meta"))
    shapes = {name: blob.data_memory.shape for name, blob in solver.net.blobs.items()}
    tops = [top for p in solver.net.places if not p.node.bottoms for top in p.node.tops]
    batch = {top: torch.empty(shapes[top], device="meta") for top in tops}
    for p in solver.rule.params:
        p.parameter.grad = torch.zeros_like(p.parameter)
    with noting_host_reads() as reads:
        found = solver.late_step.queue_pass(batch, 0, 0.01, is_last=True)
    assert reads.found == []
    assert found.values.device.type == "meta"


def test_a_recorded_step_reads_nothing_back(make_solver: SolverMaker) -> None:
    solver = in_this_way(make_solver("base_lr: 0.01 momentum: 0.9", net="CaffeNet"), "recorded")
    solver.step(2)
    assert reads_of_a_step(solver) == []
    assert runs_of(solver) == 3


def test_an_ordinary_step_does_read(make_solver: SolverMaker) -> None:
    """The count can fail: labels and gradients are read where they are needed."""
    solver = make_solver("base_lr: 0.01 clip_gradients: 1", net="LeNet")
    with noting_host_reads() as reads:
        solver.step(1)
    assert len([text for text in reads.found if "_local_scalar_dense" in text]) >= 3


FILTER = """
layer { name: "data" type: "DummyData" top: "x" top: "s" dummy_data_param {
  shape { dim: 4 dim: 3 } shape { dim: 4 } data_filler { type: "gaussian" }
  data_filler { value: 1 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
%s
layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: 1 }
"""


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (
            'layer { name: "pick" type: "Filter" bottom: "y" bottom: "s" top: "z" }',
            'layer "pick" (Filter) is not the same work each time',
        ),
        (
            'layer { name: "slow" type: "ReadsBack" bottom: "y" top: "z" }',
            "aten::_local_scalar_dense needs values on the host, in the layer that makes z",
        ),
        (
            'layer { name: "own" type: "Parameter" top: "own" parameter_param {'
            " shape { dim: 4 dim: 2 } } }"
            'layer { name: "add" type: "Eltwise" bottom: "y" bottom: "own" top: "z" }',
            'the layer "own" gives a parameter as data',
        ),
    ],
)
def test_what_is_not_recorded_says_why_and_runs(
    make_solver: SolverMaker,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reads_back: None,
    layer: str,
    why: str,
) -> None:
    caplog.set_level(logging.DEBUG, "moka")
    monkeypatch.setitem(NETS, "refused", FILTER % layer)
    solver = in_this_way(make_solver("base_lr: 0.01", net="refused"), "recorded")
    before = weights(solver)
    solver.step(3)
    assert not all(map(torch.equal, weights(solver), before))
    assert runs_of(solver) == 0
    assert f"A step is not recorded: {why}." in caplog.messages


def test_a_hook_on_a_parameter_is_called_in_each_step(make_solver: SolverMaker) -> None:
    solver = in_this_way(make_solver("base_lr: 0.01", net="LeNet"), "recorded")
    solver.step(4)
    assert runs_of(solver)
    called: list[torch.Tensor] = []
    parameter = next(solver.net.parameters())
    handle = parameter.register_post_accumulate_grad_hook(called.append)  # type: ignore[no-untyped-call]
    solver.step(2)
    assert len(called) == 2
    handle.remove()
    runs = runs_of(solver)
    solver.step(2)
    assert len(called) == 2
    assert runs_of(solver) == runs + 2


# --- float16 ------------------------------------------------------------------------------


def test_float16_trains_as_single_precision_does(make_solver: SolverMaker) -> None:
    text = "base_lr: 0.02 momentum: 0.9 precision: %s"
    wanted: list[Record] = []
    found: list[Record] = []
    plain = run(make_solver(text % "FLOAT", net="CaffeNet", records=wanted), wanted)
    mixed = make_solver(text % "FP16", net="CaffeNet", records=found)
    assert mixed.late_step.scale is not None
    mixed.late_step.scale.value.fill_(2.0**8)  # small enough for every gradient
    losses = run(mixed, found)
    assert losses == pytest.approx(plain, rel=2e-2, abs=2e-3)  # products have 11 bits
    assert losses != plain
    assert {p.dtype for p in mixed.net.parameters()} == {torch.float32}


def test_a_snapshot_keeps_the_scale(make_solver: SolverMaker) -> None:
    text = "base_lr: 0.05 precision: FP16"
    solver, other = make_solver(text, net="LeNet"), make_solver(text, net="LeNet")
    solver.step(3)
    _, state = solver.snapshot()
    other.restore(state)
    one, two = solver.late_step.scale, other.late_step.scale
    assert one is not None
    assert two is not None
    assert (two.value, two.good_steps) == (one.value, one.good_steps)
    assert one.value != 2.0**16 or one.good_steps == 3


def test_the_scale_begins_where_the_net_says(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETS, "scaled", "global_grad_scale: 512" + KINDS["LeNet"])
    scale = make_solver("precision: FP16", net="scaled").late_step.scale
    assert scale is not None
    assert scale.value.item() == 512


def test_several_processes_have_no_float16(make_solver: SolverMaker) -> None:
    message = make_solver("precision: FP16", net="LeNet").config
    with pytest.raises(SolverError, match="FP16 works in one process, here are 2"):
        Solver(message, team=Alone(0, 2))


def test_a_gradient_that_overflows_halves_the_scale_and_is_left_out(
    make_solver: SolverMaker,
) -> None:
    records: list[Record] = []
    text = "base_lr: 0.05 momentum: 0.9 precision: FP16"
    solver = make_solver(text, net="LeNet", records=records)
    scale = solver.late_step.scale
    assert scale is not None
    solver.step(1)
    before = [t.clone() for t in (*weights(solver), *solver.rule.history())]
    scale.value.fill_(2.0**40)  # beyond float16, so the gradients are infinite
    solver.step(1)
    after = [*weights(solver), *solver.rule.history()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert scale.value.item() == 2.0**39
    assert len(iterations(records)) == 2  # its loss is announced all the same
    solver.step(30)  # on the way down it comes to a scale that fits
    assert not all(map(torch.equal, weights(solver), before))


def test_a_loss_that_is_not_finite_is_a_fault_in_float16_too(make_solver: SolverMaker) -> None:
    solver = make_solver("base_lr: 0.05 precision: FP16", net="LeNet")
    solver.step(1)
    next(p for p in solver.net.parameters()).data.fill_(torch.nan)
    with pytest.raises(SolverError, match="the loss is nan at iteration 1"):
        solver.step(1)
