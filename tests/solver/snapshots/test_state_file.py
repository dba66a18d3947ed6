from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from moka.errors import SolverError
from moka.schema import blobproto, caffe_pb2
from moka.solver.snapshots.state_file import read_state, write_state


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def state() -> caffe_pb2.SolverState:
    made = caffe_pb2.SolverState(iter=7, learned_net="m\u00e9.caffemodel", current_step=2)
    for k in range(12):  # more than nine: names sort as text
        made.history.append(blobproto.from_array(np.full((k + 1, 2), k, np.float32)))
    made.run_state.recent_loss.extend([0.1, 1 / 3])
    return made


@pytest.mark.parametrize("hdf5", [False, True])
def test_what_is_written_is_read(state: caffe_pb2.SolverState, hdf5: bool) -> None:
    write_state("any.name", state, hdf5=hdf5)
    assert read_state("any.name") == state


def test_the_hdf5_form_is_bvlcs(state: caffe_pb2.SolverState) -> None:
    write_state("s.h5", state, hdf5=True)
    with h5py.File("s.h5") as file:
        assert set(file) == {"iter", "learned_net", "current_step", "history", "run_state"}
        for name, value in (("iter", 7), ("current_step", 2)):
            assert (file[name].dtype, file[name].shape) == (np.int32, (1,))
            assert file[name][0] == value
        assert file["learned_net"].shape == ()
        room = h5py.check_string_dtype(file["learned_net"].dtype).length
        assert room == len(state.learned_net.encode()) + 1  # for the zero byte at which Caffe stops
        assert file["learned_net"][()].decode() == state.learned_net
        assert sorted(map(int, file["history"])) == list(range(12))
        assert file["history/3"].dtype == np.float32


def test_without_what_only_moka_knows(state: caffe_pb2.SolverState) -> None:
    write_state("s.h5", state, hdf5=True)
    with h5py.File("s.h5", "a") as file:
        del file["run_state"]
    state.ClearField("run_state")
    assert read_state("s.h5") == state


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, r"File not found: s\.solverstate"),
        (b"\xff\xff", r"s\.solverstate: .*SolverState.*truncated"),
        (b"", r"s\.solverstate: .*no iteration and no model.*\.caffemodel\) go to --weights"),
        (caffe_pb2.SolverState(iter=3).SerializeToString(), "no iteration and no model"),
        (caffe_pb2.SolverState(learned_net="m").SerializeToString(), "no iteration and no model"),
    ],
)
def test_states_that_are_none(content: bytes | None, says: str) -> None:
    if content is not None:
        Path("s.solverstate").write_bytes(content)
    with pytest.raises(SolverError, match=says):
        read_state("s.solverstate")


def test_hdf5_files_that_are_no_states(state: caffe_pb2.SolverState) -> None:
    with h5py.File("other.h5", "w") as file:
        file["data"] = 1
    with pytest.raises(SolverError, match=r"other\.h5: .*no iteration and no model"):
        read_state("other.h5")
    with h5py.File("wrong.h5", "w") as file:
        file["iter"], file["learned_net"] = 1, 2
    with pytest.raises(SolverError, match=r"wrong\.h5: this HDF5 file is damaged, or no state"):
        read_state("wrong.h5")
    write_state("cut.h5", state, hdf5=True)
    Path("cut.h5").write_bytes(Path("cut.h5").read_bytes()[:-100])
    with pytest.raises(SolverError, match=r"cut\.h5: .*damaged.*Resume from an earlier"):
        read_state("cut.h5")
