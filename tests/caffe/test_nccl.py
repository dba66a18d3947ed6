"""Several processes train one model, each with its own share of the data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import caffe
from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.errors import SolverError

# As programs for several GPUs are written: a process each, started by one that made the uid.
PROGRAM = """
import json, multiprocessing, sys
import caffe

def train(uid, rank, count):
    caffe.set_solver_count(count)
    caffe.set_solver_rank(rank)
    caffe.set_multiprocess(True)
    solver = caffe.SGDSolver("solver.prototxt")
    solver.net.params["ip"][0].data[...] += rank
    nccl = caffe.NCCL(solver, uid)
    nccl.bcast()
    solver.add_callback(nccl)
    if sys.argv[1] == "layer by layer":
        solver.net.after_backward(nccl)
    solver.net.blobs["x"].data[...] += rank
    solver.net.blobs["t"].data[...] -= rank
    solver.step(solver.param.max_iter)
    values = [v for b in solver.net.params["ip"] for v in b.data.ravel().tolist()]
    with open(f"rank{rank}.json", "w") as file:
        json.dump(values, file)

if __name__ == "__main__":
    uid = caffe.NCCL.new_uid()
    processes = [
        multiprocessing.Process(target=train, args=(uid, rank, 2), daemon=True) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
"""


@pytest.mark.parametrize("way", ["at once", "layer by layer"])
def test_two_processes_train_as_one_with_all_the_data(way: str) -> None:
    Path("program.py").write_text(PROGRAM)
    solver_file = Path("solver.prototxt")
    solver_file.write_text(solver_file.read_text() + "snapshot: 6")
    subprocess.run([sys.executable, "program.py", way], check=True, timeout=120)
    first, second = (json.loads(Path(f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    assert Path("snap_iter_6.caffemodel").exists()  # the first one's; the other does not save

    text = Path("train.prototxt").read_text()
    Path("train.prototxt").write_text(text.replace("dim: 4", "dim: 8"))
    whole = caffe.SGDSolver("solver.prototxt")
    whole.net.blobs["x"].data[4:] += 1
    whole.net.blobs["t"].data[4:] -= 1
    whole.step(6)
    wanted = [v for b in whole.net.params["ip"] for v in b.data.ravel().tolist()]
    np.testing.assert_allclose(first, wanted, rtol=1e-4)  # sums in another order, six times


def test_a_uid_is_bytes_and_new() -> None:
    assert caffe.has_nccl()
    one, other = caffe.NCCL.new_uid(), caffe.NCCL.new_uid()
    assert isinstance(one, bytes)
    assert one != other


def test_with_one_solver_nothing_changes() -> None:
    alone, plain = (caffe.get_solver("solver.prototxt") for _ in range(2))
    nccl = caffe.NCCL(alone, caffe.NCCL.new_uid())
    nccl.bcast()
    alone.add_callback(nccl)
    alone.net.after_backward(nccl)
    alone.step(3)
    plain.step(3)
    for k in range(2):
        np.testing.assert_allclose(
            alone.net.params["ip"][k].data, plain.net.params["ip"][k].data, rtol=1e-5
        )


@pytest.fixture
def _second_of_two(monkeypatch: pytest.MonkeyPatch) -> Any:
    caffe.set_solver_count(2)
    caffe.set_solver_rank(1)
    yield
    caffe.set_solver_count(1)
    caffe.set_solver_rank(0)


@pytest.mark.usefixtures("_second_of_two")
def test_only_the_first_solver_tests_saves_and_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "moka")
    text = Path("solver.prototxt").read_text()
    for old, new in (("test_interval: 100", "test_interval: 2"), ("after_train: false", "")):
        text = text.replace(old, new).replace("snapshot_\n", "\n")
    Path("solver.prototxt").write_text(text + "snapshot: 4 display: 1")
    solver = caffe.get_solver("solver.prototxt")
    caplog.clear()
    solver.solve()
    assert solver.iter == 6
    assert not caplog.messages
    assert not list(Path().glob("snap_*"))
    assert not solver.test_nets[0].blobs["loss"].data.any()


def test_a_rank_that_is_declared_after_the_solver_was_made() -> None:
    solver = caffe.get_solver("solver.prototxt")
    caffe.set_solver_rank(1)
    try:
        with pytest.raises(SolverError, match=r"made as number 0 of 1, and now .* number 1 of 1"):
            caffe.NCCL(solver, caffe.NCCL.new_uid())
    finally:
        caffe.set_solver_rank(0)


@pytest.mark.usefixtures("_second_of_two")
@pytest.mark.parametrize(("phase", "wanted"), [(caffe.TRAIN, [1, 3]), (caffe.TEST, [0, 1])])
def test_a_net_for_training_reads_its_share_of_the_data(phase: Any, wanted: list[int]) -> None:
    with LmdbWriter("numbers") as writer:
        for i in range(4):
            record = datum.encode(np.zeros((1, 1, 1), np.uint8), i)
            writer.put(b"%02d" % i, record.SerializeToString())
    Path("numbers.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "x" top: "y"'
        ' data_param { source: "numbers" batch_size: 2 } }'
    )
    net = caffe.Net("numbers.prototxt", phase)
    net.forward()
    assert net.blobs["y"].data.tolist() == wanted
