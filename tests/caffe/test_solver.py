from __future__ import annotations

import gc
import os
import weakref
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import caffe
from moka.errors import SchemaError, SolverError
from moka.schema import caffe_pb2, parse_text


@pytest.fixture
def solver() -> caffe.SGDSolver:
    return caffe.get_solver("solver.prototxt")


def values(net: caffe.Net) -> list[float]:
    return [v for blobs in net.params.values() for b in blobs for v in b.data.ravel().tolist()]


def test_what_is_in_a_solver(solver: caffe.SGDSolver) -> None:
    assert isinstance(solver, caffe.SGDSolver)
    assert solver.net.name == "line"
    assert [net.name for net in solver.test_nets] == ["line"]
    assert solver.iter == 0
    assert solver.param.max_iter == 6
    assert solver.net is solver.net


def test_a_solver_of_a_message_or_a_path() -> None:
    message = parse_text(Path("solver.prototxt").read_text(), caffe_pb2.SolverParameter)
    for given in (message, Path("solver.prototxt")):
        assert caffe.get_solver(given).param.max_iter == 6
        assert caffe.AdamSolver(given).type == "Adam"
    assert message.type == "SGD"
    with pytest.raises(TypeError, match="a file is given by its name, not as int"):
        caffe.get_solver(3)  # type: ignore[arg-type]


def test_freed_memory_is_kept_as_long_as_a_solver_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    owners: list[weakref.ref[caffe.SGDSolver]] = []
    monkeypatch.setattr(
        "caffe.solver.keep_freed_memory_for", lambda owner: owners.append(weakref.ref(owner))
    )
    made = [caffe.get_solver("solver.prototxt"), caffe.SGDSolver("solver.prototxt")]
    assert [owner() for owner in owners] == made
    del made
    gc.collect()
    assert [owner() for owner in owners] == [None, None]


def test_iter_and_lr(solver: caffe.SGDSolver) -> None:
    rates = []
    for _ in range(5):
        rates.append(solver.lr)
        solver.step(1)
    assert solver.iter == 5
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05])


def test_a_step_is_caffes(solver: caffe.SGDSolver) -> None:
    weight, bias = (blob.data.copy() for blob in solver.net.params["ip"])
    x = solver.net.blobs["x"].data
    solver.step(1)
    error = (np.full((4, 3), 0.5) @ weight.T + bias - 2)[0, 0]
    # The gradient of 1/(2N) sum (y - t)^2 for equal rows; diffs hold lr * gradient.
    update = solver.net.params["ip"][0].diff
    np.testing.assert_allclose(update, np.full((1, 3), 0.1 * error * 0.5), rtol=1e-5)
    np.testing.assert_array_equal(solver.net.params["ip"][0].data, weight - update)
    assert solver.net.blobs["loss"].data == pytest.approx(error**2 / 2, rel=1e-5)
    assert (x == 0.5).all()
    np.testing.assert_allclose(solver.net.blobs["y"].data, np.full((4, 1), error + 2), rtol=1e-5)


def test_parameters_written_in_between_are_used(solver: caffe.SGDSolver) -> None:
    solver.step(1)
    weight, bias = solver.net.params["ip"]
    weight.data[...] = 1
    bias.data[...] = 0.5  # now y = t
    solver.step(1)
    assert solver.net.blobs["loss"].data == 0


def test_solve(solver: caffe.SGDSolver) -> None:
    solver.solve()
    assert solver.iter == 6


def test_snapshot_and_restore(solver: caffe.SGDSolver) -> None:
    solver.step(2)
    solver.snapshot()
    assert {"snap_iter_2.caffemodel", "snap_iter_2.solverstate"} <= set(os.listdir())
    solver.step(3)
    other = caffe.SGDSolver("solver.prototxt")
    other.restore("snap_iter_2.solverstate")
    assert other.iter == 2
    other.step(3)
    assert values(other.net) == values(solver.net)


def test_solve_from_a_snapshot(solver: caffe.SGDSolver) -> None:
    solver.step(2)
    solver.snapshot()
    solver.solve()
    other = caffe.get_solver("solver.prototxt")
    other.solve("snap_iter_2.solverstate")
    assert other.iter == 6
    assert values(other.net) == values(solver.net)


def test_test_nets_can_share_the_parameters(solver: caffe.SGDSolver) -> None:
    (test_net,) = solver.test_nets
    test_net.share_with(solver.net)
    solver.step(2)
    assert values(test_net) == values(solver.net)


@pytest.mark.parametrize("make", [caffe.get_solver, caffe.SGDSolver])
def test_a_file_that_is_missing(make: type[caffe.SGDSolver]) -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file gone\.prototxt"):
        make("gone.prototxt")


def test_a_state_that_is_missing(solver: caffe.SGDSolver) -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file gone\.solverstate"):
        solver.restore("gone.solverstate")


def test_an_unknown_type() -> None:
    Path("solver.prototxt").write_text(Path("solver.prototxt").read_text() + 'type: "Magic"')
    with pytest.raises(SolverError, match=r"solver\.prototxt: Unknown solver type: Magic"):
        caffe.get_solver("solver.prototxt")


def test_a_test_net_leaves_parameters_and_its_blobs_as_pycaffe_has_them(tmp_path: Path) -> None:
    """Kernels stay row-major for NumPy, and a test leaves the test net's data in view."""
    net = (
        'layer { name: "x" type: "DummyData" top: "x" dummy_data_param {'
        " shape { dim: 1 dim: 2 dim: 3 dim: 3 } data_filler { value: 1 } } }"
        'layer { name: "c" type: "Convolution" bottom: "x" top: "c" loss_weight: 1'
        " convolution_param { num_output: 4 kernel_size: 3 bias_filler { value: 3 } } }"
        'layer { name: "r" type: "ReLU" bottom: "c" top: "r" }'
    )
    (tmp_path / "s.prototxt").write_text(
        f"net_param {{ {net} }} test_iter: 1 test_interval: 1 base_lr: 0 snapshot_after_train:"
        ' false lr_policy: "fixed"'
    )
    solver = caffe.get_solver(str(tmp_path / "s.prototxt"))
    solver.step(1)
    assert solver.net.params["c"][0].data.flags.c_contiguous
    assert solver.test_nets[0].blobs["c"].data.ravel().tolist() == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("cls", "fields"),
    [
        (caffe.SGDSolver, "momentum: 0.9"),
        (caffe.NesterovSolver, "momentum: 0.9"),
        (caffe.AdaGradSolver, ""),
        (caffe.RMSPropSolver, "rms_decay: 0.9"),
        (caffe.AdaDeltaSolver, "momentum: 0.9"),
        (caffe.AdamSolver, "momentum: 0.9"),
    ],
)
def test_classes(cls: type[caffe.SGDSolver], fields: str) -> None:
    text = Path("solver.prototxt").read_text().replace("momentum: 0.9", "")
    Path("typed.prototxt").write_text(f'{text} type: "{cls.type}" {fields}')
    made = caffe.get_solver("typed.prototxt")
    assert type(made) is cls
    assert isinstance(made, caffe.SGDSolver)
    before = made.net.params["ip"][0].data.copy()
    made.step(1)
    assert (made.net.params["ip"][0].data != before).all()
    Path("other.prototxt").write_text(f"{text} {fields}")
    assert cls("other.prototxt").param.type == cls.type  # the class decides


@pytest.mark.parametrize("kind", ["AdamW", "LARS"])
def test_a_type_of_mokas_own(kind: str) -> None:
    text = Path("solver.prototxt").read_text()
    Path("own.prototxt").write_text(f'{text} type: "{kind}"')
    made = caffe.get_solver("own.prototxt")
    assert made.param.type == kind
    made.step(1)


def test_an_old_solver_is_upgraded_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "moka")
    text = Path("solver.prototxt").read_text()
    Path("old.prototxt").write_text(f"{text} solver_type: NESTEROV")
    assert type(caffe.get_solver("old.prototxt")) is caffe.NesterovSolver
    assert len([m for m in caplog.messages if m.startswith("Attempting to upgrade")]) == 1


def test_after_a_step_every_blob_has_its_diff(solver: caffe.SGDSolver) -> None:
    weight, bias = (blob.data.copy() for blob in solver.net.params["ip"])
    held = solver.net.blobs["y"].diff
    solver.step(1)
    error = np.full((4, 3), 0.5) @ weight.T + bias - 2
    for diff in (held, solver.net.blobs["y"].diff):
        np.testing.assert_allclose(diff, error / 4, rtol=1e-5)  # of 1/(2N) sum (y - t)^2
    assert solver.net.blobs["loss"].diff == 1
    assert not solver.net.blobs["x"].diff.any()  # nobody asks for it


def test_parameters_can_be_updated_by_hand(solver: caffe.SGDSolver) -> None:
    weight, bias = solver.net.params["ip"]
    before = weight.data.copy(), bias.data.copy()
    weight.diff[...] = 1
    solver.apply_update()
    np.testing.assert_allclose(weight.data, before[0] - 0.1, rtol=1e-6)  # the rate is 0.1
    np.testing.assert_array_equal(bias.data, before[1])
    assert solver.iter == 1


def test_a_loop_by_hand_is_a_step() -> None:
    by_hand, by_step = (caffe.get_solver("solver.prototxt") for _ in range(2))
    for _ in range(4):
        by_hand.net.clear_param_diffs()
        by_hand.net.forward()
        by_hand.net.backward()
        by_hand.apply_update()
    by_step.step(4)
    assert by_hand.iter == by_step.iter
    # The same sums in another order, in float32.
    np.testing.assert_allclose(values(by_hand.net), values(by_step.net), rtol=1e-5)


def test_a_program_that_counts_its_iterations_itself(solver: caffe.SGDSolver) -> None:
    """As that of deepsim: two passes, one update."""
    other = caffe.get_solver("solver.prototxt")
    for _ in range(2):
        other.net.forward()
        other.net.backward()
    other.apply_update()
    for wanted in (1, 2):
        solver.increment_iter()
        solver.net.clear_param_diffs()
        for _ in range(2):
            solver.net.forward_simple()
            solver.net.backward_simple()
        solver.apply_update()
        assert solver.iter == wanted
        if wanted == other.iter:
            np.testing.assert_allclose(values(solver.net), values(other.net), rtol=1e-5)


def test_a_solver_of_a_text(solver: caffe.SGDSolver) -> None:
    text = Path("solver.prototxt").read_text()
    message = parse_text(text, caffe_pb2.SolverParameter)
    for given in (text, text.encode(), message.SerializeToString()):
        made = caffe.get_solver_from_string(given)
        assert (type(made), made.param.max_iter) == (type(solver), 6)
    with pytest.raises(SchemaError, match="no field named"):
        caffe.get_solver_from_string("no_field: 1")


def test_callbacks_of_an_iteration(solver: caffe.SGDSolver) -> None:
    seen: list[object] = []
    weight = solver.net.params["ip"][0]
    solver.add_callback(
        lambda: seen.append(("start", float(np.abs(weight.diff).sum()))),
        lambda: seen.append(("ready", bool(weight.diff.any()), weight.data.copy())),
    )
    before = weight.data.copy()
    solver.step(1)
    assert seen[0] == ("start", 0)
    name, any_diff, at_that_time = seen[1]  # type: ignore[misc]
    assert (name, any_diff) == ("ready", True)  # type: ignore[has-type]
    np.testing.assert_array_equal(at_that_time, before)  # type: ignore[has-type]
    solver.step(2)
    assert [entry[0] for entry in seen] == ["start", "ready"] * 3  # type: ignore[index]


def test_an_object_with_both_callbacks(solver: caffe.SGDSolver) -> None:
    class Both:
        seen: ClassVar[list[str]] = []

        def on_start(self) -> None:
            self.seen.append("start")

        def on_gradients_ready(self) -> None:
            self.seen.append("ready")

    solver.add_callback(Both())
    solver.step(2)
    assert Both.seen == ["start", "ready"] * 2


def test_a_step_calls_what_the_net_was_given(solver: caffe.SGDSolver) -> None:
    other = caffe.get_solver("solver.prototxt")
    seen: list[tuple[str, int]] = []
    solver.net.before_forward(lambda i: seen.append(("forward", i)))
    solver.net.after_backward(lambda i: seen.append(("backward", i)))
    solver.step(2)
    forward, backward = [("forward", i) for i in range(3)], [("backward", i) for i in (2, 1, 0)]
    assert seen == [*forward, *backward] * 2
    other.step(2)
    np.testing.assert_allclose(values(solver.net), values(other.net), rtol=1e-5)


def test_another_net_can_use_the_parameters(solver: caffe.SGDSolver) -> None:
    net = caffe.Net("train.prototxt", caffe.TEST)
    solver.share_weights(net)
    solver.step(2)
    assert values(net) == values(solver.net)


def test_the_rate_can_be_changed(solver: caffe.SGDSolver) -> None:
    assert solver.param.base_lr == pytest.approx(0.1)
    assert solver.param.display == 0
    assert solver.param.layer_wise_reduce is True
    solver.param.base_lr = 0.25
    assert solver.lr == 0.25
    before = solver.net.params["ip"][1].data.copy()
    solver.step(1)
    np.testing.assert_allclose(
        before - solver.net.params["ip"][1].data, 0.25 * solver.net.blobs["y"].diff.sum(0)
    )


def test_nets_outlive_their_solver(solver: caffe.SGDSolver) -> None:
    nets = [solver.net, *solver.test_nets]
    del solver
    gc.collect()
    for net in nets:
        blobs = [*net.blobs.values(), *(b for blobs in net.params.values() for b in blobs)]
        assert np.isfinite([blob.data.sum() + blob.diff.sum() for blob in blobs]).all()


def test_a_state_to_solve_from_that_is_missing(solver: caffe.SGDSolver) -> None:
    with pytest.raises(RuntimeError, match=r"Could not open file gone\.solverstate"):
        solver.solve("gone.solverstate")
