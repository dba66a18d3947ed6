"""The file of an iteration that broke holds all that running it again needs."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.training_runs import NETS

from moka.errors import SolverError
from moka.net import read_net
from moka.schema import caffe_pb2, parse_text
from moka.solver.config import NetToBuild, train_net
from moka.solver.faults.divergence import batch_names
from moka.solver.faults.replay import load_replay, read_replay, replay_name, write_replay
from moka.solver.faults.trace import ArraySummary, trace_pass
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker

CPU = torch.device("cpu")


def kept(solver: Solver) -> list[ArraySummary]:
    """Writes the solver's last pass to the file "it"; returns that pass, layer by layer."""
    start = solver.engine.start
    assert start is not None
    arrays = list(trace_pass(solver.net, start))
    names = batch_names(solver.net)
    write_replay("it", solver.net, start, iteration=7, rate=0.5, records=names)
    return arrays


@pytest.mark.parametrize("net", ["random", "recurrent", "hdf5", "linear"])
def test_the_iteration_is_the_same_without_its_data(
    make_solver: SolverMaker, database: str, net: str
) -> None:
    if net == "hdf5":
        write_rows()
    solver = make_solver("momentum: 0.9", net=net)
    solver.step(3)
    wanted_net = train_net(solver.config, "solver.prototxt")
    torch.manual_seed(99)
    solver.engine.forward_backward()
    arrays = kept(solver)
    solver.close()
    Path(database).rename("moved")
    torch.manual_seed(4)
    replay = read_replay("it")
    assert (replay.iteration, replay.rate) == (7, 0.5)
    loaded, start = load_replay(wanted_net, replay, CPU)
    again = list(trace_pass(loaded, start))
    assert [k.what for k in again] == [k.what for k in arrays]
    for mine, theirs in zip(again, arrays, strict=True):
        assert mine.mean_abs == pytest.approx(theirs.mean_abs, rel=1e-5), mine.place  # float32
    records = replay.of_kind("records")
    if net == "random":
        assert records["0/data"].tolist() == ["02", "03", "04", "05"]  # the fourth batch of ten
    elif net == "hdf5":
        assert [name[: len("rows.h5 row ")] for name in records["0/data"]] == ["rows.h5 row "] * 2
    else:
        assert not records


def write_rows() -> None:
    import h5py

    with h5py.File("rows.h5", "w") as file:
        rng = np.random.default_rng(3)
        file["x"] = rng.normal(size=(7, 3)).astype(np.float32)
        file["t"] = rng.normal(size=(7, 1)).astype(np.float32)
    Path("rows.txt").write_text("rows.h5\n")


def test_the_states_of_layers_and_statistics_are_those_before_the_pass(
    make_solver: SolverMaker,
) -> None:
    solver = make_solver(net="recurrent")
    solver.step(2)
    (position,) = (i for i, node in enumerate(solver.net.graph.nodes) if node.name == "lstm")
    (before,) = (s.clone() for s in solver.net.layers[position].run_state())
    solver.engine.forward_backward()
    start = solver.engine.start
    assert start is not None
    write_replay("it", solver.net, start, iteration=2, rate=0.1, records={})
    net, _ = load_replay(train_net(solver.config, "s"), read_replay("it"), CPU)
    assert torch.equal(net.layers[position].run_state()[0], before)


def test_the_iteration_of_another_net(make_solver: SolverMaker, database: str) -> None:
    solver = make_solver()
    solver.step(1)
    kept(solver)
    replay = read_replay("it")
    for text in (
        NETS["linear"].replace("num_output: 1", "num_output: 1 bias_term: false"),
        NETS["linear"].replace('name: "ip"', 'name: "other"'),
        NETS["linear"].replace('"t"', '"target"'),
    ):
        param = read_net(parse_text(text, caffe_pb2.NetParameter))[0]
        param.state.phase = caffe_pb2.TRAIN
        with pytest.raises(SolverError, match=r"n\.prototxt: the iteration is of another net"):
            load_replay(NetToBuild(param, "n.prototxt", ""), replay, CPU)


def test_a_net_with_other_data_in_testing(
    make_solver: SolverMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_test = NETS["linear"].split("layer {")[1].replace("value: 2", "value: 3")
    both = "layer {".join([NETS["linear"], f"include {{ phase: TEST }} {of_test}"])
    both = both.replace('type: "DummyData"', 'type: "DummyData" include { phase: TRAIN }', 1)
    monkeypatch.setitem(NETS, "both", both)
    solver = make_solver(net="both")
    solver.step(1)
    kept(solver)
    net, _ = load_replay(train_net(solver.config, "s"), read_replay("it"), CPU)
    made = [type(layer).__name__ for layer in net.layers]
    assert made == ["Input", "InnerProduct", "EuclideanLoss"]


def test_what_numpy_sees(make_solver: SolverMaker) -> None:
    solver = make_solver()
    solver.step(1)
    kept(solver)
    with np.load("it", allow_pickle=False) as archive:
        assert sorted(archive) == [
            "batch/t",
            "batch/x",
            "iteration",
            "param/1/ip/0",
            "param/1/ip/1",
            "random/cpu",
            "rate",
        ]
        assert archive["batch/x"].shape == (4, 3)


def test_files_that_are_something_else(make_solver: SolverMaker) -> None:
    with pytest.raises(SolverError, match=r"^gone: No such file"):
        read_replay("gone")
    with pytest.raises(SolverError, match=r"^\.: Is a directory\."):
        read_replay(".")
    make_solver().step(1)
    whole = make_solver()
    whole.step(1)
    kept(whole)
    data = Path("it").read_bytes()
    Path("short").write_bytes(data[: len(data) // 2])
    Path("text").write_text("net: 1")
    Path("empty").write_bytes(b"")
    np.savez("other.npz", a=1)
    np.save("array.npy", np.zeros(3))
    np.savez("pickled.npz", iteration=np.array([{}], object), rate=1)
    with zipfile.ZipFile("packed.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("iteration.npy", bytes(999))
    packed = bytearray(Path("packed.npz").read_bytes())
    for name, at, byte in (("damaged", packed.index(b".npy") + 4, 0xFF), ("unknown", 8, 77)):
        changed = packed.copy()
        changed[at] = byte
        if name == "unknown":  # the list of files names the way of packing, too
            changed[packed.index(b"PK\x01\x02") + 10] = byte
        Path(name).write_bytes(changed)
    names = (
        "short",
        "text",
        "empty",
        "other.npz",
        "array.npy",
        "pickled.npz",
        "damaged",
        "unknown",
    )
    for name in names:
        with pytest.raises(
            SolverError, match=rf"^{name}: this is no iteration to run again: another"
        ):
            read_replay(name)


def test_its_name() -> None:
    assert replay_name("a/snap", 12) == "a/snap_iter_12.replay"
