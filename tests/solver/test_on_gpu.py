"""Training on a GPU: the numbers of the CPU, CUDA graphs, and no waits. `pytest -m gpu`

Needs no database, so that it runs on a machine with PyTorch and little else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
import torch
from tests.solver.late_nets import KINDS
from tests.training_runs import NETS, iterations, weights

from moka import context
from moka.errors import DataError
from moka.net import build_net
from moka.report.records import Record
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

TYPES = {
    "SGD": "momentum: 0.9 weight_decay: 0.01",
    "Nesterov": "momentum: 0.9",
    "AdaGrad": "",
    "RMSProp": "rms_decay: 0.9",
    "AdaDelta": "momentum: 0.9 delta: 1e-6",
    "Adam": "momentum: 0.9 momentum2: 0.99 weight_decay: 0.01",
}
# Dropout draws other numbers on a GPU.
WITHOUT_DROPOUT = {
    kind: text.replace("dropout_ratio: 0.5", "").replace('type: "Dropout"', 'type: "ReLU"')
    for kind, text in KINDS.items()
}


@pytest.fixture(autouse=True)
def _nets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in WITHOUT_DROPOUT.items():
        monkeypatch.setitem(NETS, name, text)


@contextmanager
def on_cpu() -> Iterator[None]:
    """Solvers made inside run on the CPU."""
    context.set_mode_cpu()
    try:
        yield
    finally:
        context.set_mode_gpu()


def run(make_solver: SolverMaker, text: str, kind: str, steps: int = 8) -> tuple[Solver, Any]:
    """A trained solver, and its losses and parameters on the CPU."""
    records: list[Record] = []
    solver = make_solver(text, net=kind, records=records)
    torch.manual_seed(7)
    solver.step(steps)
    return solver, ([r.loss for r in iterations(records)], [w.cpu() for w in weights(solver)])


def recordings(solver: Solver) -> int:
    captured = solver.late_step.captured
    assert captured is not None
    assert captured.refusal is None
    return captured.recordings


@pytest.mark.parametrize("solver_type", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_run_gives_the_numbers_of_the_cpu(
    make_solver: SolverMaker, kind: str, solver_type: str
) -> None:
    text = f'type: "{solver_type}" base_lr: 0.01 lr_policy: "inv" gamma: 0.1 power: 0.75'
    text = f"{text} clip_gradients: 2 {TYPES[solver_type]}"
    solver, found = run(make_solver, text, kind)
    assert recordings(solver) == 1
    with on_cpu():
        _, wanted = run(make_solver, text, kind)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)  # sums in another order


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_run_gives_the_numbers_of_one_that_is_not(
    make_solver: SolverMaker, kind: str
) -> None:
    text = "base_lr: 0.01 momentum: 0.9"
    _, found = run(make_solver, text, kind)
    records: list[Record] = []
    solver = make_solver(text, net=kind, records=records)
    solver.late_step.captured = None
    torch.manual_seed(7)
    solver.step(8)
    wanted = [r.loss for r in iterations(records)], [w.cpu() for w in weights(solver)]
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["FLOAT", "BF16", "FP16", "TF32"])
@pytest.mark.parametrize("captured", [True, False], ids=["recorded", "queued"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_in_an_iteration(
    make_solver: SolverMaker, kind: str, captured: bool, precision: str
) -> None:
    text = f"base_lr: 0.01 momentum: 0.9 clip_gradients: 5 precision: {precision}"
    solver = make_solver(text, net=kind)
    if not captured:
        solver.late_step.captured = None
    solver.step(6)  # libraries may wait when they are first used
    queue: Callable[..., Any] = solver.late_step.queue_pass

    def watched(*args: Any, **more: Any) -> Any:
        try:
            torch.cuda.set_sync_debug_mode("error")
            return queue(*args, **more)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    solver.late_step.queue_pass = watched  # type: ignore[method-assign]
    solver.step(3)
    if captured:
        assert recordings(solver) == 1


def test_dropout_differs_in_each_replay(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = KINDS["CaffeNet"].replace('type: "gaussian"', "value: 0.5", 1)
    monkeypatch.setitem(NETS, "random", text)
    solver, (losses, _) = run(make_solver, "base_lr: 0", "random", steps=12)
    assert recordings(solver) == 1
    assert len(set(losses)) > 9  # two draws may happen to be the same
    _, (again, _) = run(make_solver, "base_lr: 0", "random", steps=12)
    assert again == losses


def test_iter_size_replays_the_pass(make_solver: SolverMaker) -> None:
    text = "base_lr: 0.01 momentum: 0.9 iter_size: 2"
    solver, found = run(make_solver, text, "LeNet")
    assert recordings(solver) > 0
    with on_cpu():
        _, wanted = run(make_solver, text, "LeNet")
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@contextmanager
def spoiled(solver: Solver, kind: str) -> Iterator[None]:
    """Inside, passes meet a number that is not finite: in the data, or in a weight."""
    if kind == "LSTM":  # whose data are indices
        weight = solver.rule.params[-1].parameter.data
        kept = weight.clone()
        weight.fill_(torch.nan)
        yield
        weight.copy_(kept)
        return
    source = solver.net.places[0].layer
    fill = source.forward
    source.forward = lambda: [fill()[0] * torch.nan, *fill()[1:]]
    yield
    source.forward = fill


@pytest.mark.parametrize("kind", ["LeNet", "BatchNorm", "LSTM"])
@pytest.mark.parametrize("solver_type", TYPES)
def test_a_step_that_is_not_finite_changes_nothing(
    make_solver: SolverMaker, kind: str, solver_type: str
) -> None:
    text = f'type: "{solver_type}" base_lr: 0.01 skip_nonfinite: 1 {TYPES[solver_type]}'
    solver = make_solver(text, net=kind)
    solver.step(6)
    with spoiled(solver, kind):
        before = [t.clone() for t in (*weights(solver), *solver.rule.history())]
        solver.step(1)
        after = [*weights(solver), *solver.rule.history()]
    torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
    before = weights(solver)
    solver.step(1)
    assert recordings(solver) == 1
    assert not all(map(torch.equal, weights(solver), before))


@pytest.mark.parametrize("label", [7.0, -1.0])
def test_a_label_out_of_range_is_told_and_changes_nothing(
    make_solver: SolverMaker, label: float
) -> None:
    solver = make_solver("base_lr: 0.01 momentum: 0.9", net="LeNet")
    solver.step(6)
    solver.net.blobs["label"].data[...] = label
    before = [t.clone() for t in (*weights(solver), *solver.rule.history())]
    with pytest.raises(DataError, match=rf"label {label:g} is outside of the 3 classes"):
        solver.step(1)
    after = [*weights(solver), *solver.rule.history()]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("precision", ["BF16", "FP16", "TF32"])
def test_each_precision_is_near_single_precision(make_solver: SolverMaker, precision: str) -> None:
    text = "base_lr: 0.01 momentum: 0.9"
    _, (wanted, _) = run(make_solver, text, "CaffeNet")
    records: list[Record] = []
    solver = make_solver(f"{text} precision: {precision}", net="CaffeNet", records=records)
    if solver.late_step.scale is not None:
        solver.late_step.scale.value.fill_(2.0**8)  # small enough for every gradient
    torch.manual_seed(7)
    solver.step(8)
    assert [r.loss for r in iterations(records)] == pytest.approx(wanted, rel=5e-2, abs=5e-3)
    assert recordings(solver) == 1
    kernels = [w for w in solver.net.parameters() if w.dim() == 4 and w.shape[1] > 1]
    last = [w.is_contiguous(memory_format=torch.channels_last) for w in kernels]
    assert all(last) == (precision != "TF32")


IMAGES = """
layer {{ name: "data" type: "ImageData" top: "data" top: "label"
  image_data_param {{ source: "list.txt" batch_size: 3 }}
  transform_param {{ crop_size: 9 mirror: true scale: 0.02 {mean} }} }}
"""


@pytest.mark.parametrize(
    "mean", ["", "mean_value: 100", "mean_value: 90 mean_value: 3 mean_value: 7"]
)
def test_batches_arrive_as_the_cpu_makes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: str
) -> None:
    """Bytes travel from pinned memory; the arithmetic happens on the GPU."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(5)
    for k in range(5):
        cv2.imwrite(f"{k}.png", rng.integers(0, 256, (12, 14, 3), np.uint8))
    Path("list.txt").write_text("".join(f"{k}.png {k}\n" for k in range(5)))
    param = parse_text(IMAGES.format(mean=mean), caffe_pb2.NetParameter)

    def batches() -> list[torch.Tensor]:
        torch.manual_seed(3)
        net = build_net(param, caffe_pb2.TRAIN)
        found = [top for _ in range(6) for top in net.propagate({}).values()]
        assert {top.device.type for top in found} == {net.device.type}
        net.close()
        return [top.cpu() for top in found]

    found = batches()
    with on_cpu():
        wanted = batches()
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
