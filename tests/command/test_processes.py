"""One command in several processes: real ones, which join by the environment as torchrun's do."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Caffe, caffe, workspace, write_database
from tests.launches import Ended, caffe_together, free_port

from moka.data.store import open_store
from moka.inference import engines
from moka.schema import caffe_pb2, read_binary

__all__ = ["caffe", "workspace"]

TRAIN = ("train", "--solver=solver.prototxt", "--patience=20")
pytestmark = pytest.mark.usefixtures("workspace")


def replace(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new))


def weights(model: str) -> list[np.ndarray]:
    message = read_binary(model, caffe_pb2.NetParameter)
    return [np.array(blob.data) for layer in message.layer for blob in layer.blobs]


def the_sentence(ended: list[Ended]) -> str:
    """The only line of the log that names an error; nobody but the first process says anything."""
    assert [each.code for each in ended] == [1] * len(ended)
    assert [each.err for each in ended[1:]] == [""] * (len(ended) - 1)
    fatal = [line for line in ended[0].err.splitlines() if line.startswith("F")]
    assert len(fatal) == 1
    return fatal[0].partition("] ")[2]


def test_the_first_process_speaks_for_all() -> None:
    first, second = caffe_together(*TRAIN)
    assert (first.code, second.code) == (0, 0)
    assert "Iteration 2" in first.err
    assert "Optimization Done." in first.err
    assert second.err == ""
    assert Path("snap_iter_4.solverstate").exists()


@pytest.mark.parametrize("count", [2, 4])
def test_strong_is_one_process_with_the_whole_batch(caffe: Caffe, count: int) -> None:
    replace("net.prototxt", "mean_file", "crop_size: 4 mirror: true mean_file")
    assert caffe(*TRAIN).code == 0
    alone = weights("snap_iter_4.caffemodel")
    assert {each.code for each in caffe_together(*TRAIN, "--strong", count=count)} == {0}
    for whole, shared in zip(alone, weights("snap_iter_4.caffemodel"), strict=True):
        np.testing.assert_allclose(shared, whole, rtol=2e-5, atol=1e-7)


def test_a_run_goes_on_with_another_number_of_processes(caffe: Caffe) -> None:
    replace("net.prototxt", "mean_file", "crop_size: 4 mirror: true mean_file")
    replace("solver.prototxt", "base_lr", "momentum: 0.9 base_lr")
    assert caffe(*TRAIN).code == 0
    alone = weights("snap_iter_4.caffemodel")
    replace("solver.prototxt", "max_iter: 4", "max_iter: 2")
    assert {each.code for each in caffe_together(*TRAIN, "--strong", count=4)} == {0}
    replace("solver.prototxt", "max_iter: 2", "max_iter: 4")
    resumed = caffe_together(*TRAIN, "--strong", "--snapshot=snap_iter_2.solverstate", count=2)
    assert {each.code for each in resumed} == {0}
    for whole, shared in zip(alone, weights("snap_iter_4.caffemodel"), strict=True):
        np.testing.assert_allclose(shared, whole, rtol=2e-5, atol=1e-7)


def test_a_batch_that_cannot_be_divided() -> None:
    said = the_sentence(caffe_together(*TRAIN, "--strong", count=3))
    assert said == (
        'net.prototxt: layer "data" (Data): --strong divides its batch among the processes, but'
        " its batch_size is 4. Choose a batch_size that their number divides, or leave --strong"
        " out."
    )


def test_more_processes_than_records() -> None:
    shutil.rmtree("train_lmdb")
    write_database("train_lmdb", 2)
    said = the_sentence(caffe_together(*TRAIN, count=3))
    assert said.startswith('net.prototxt: layer "data" (Data): 3 processes cannot share 2 records.')


@pytest.fixture
def machines(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two folders, as on two machines, with the same files."""
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(workspace, other, dirs_exist_ok=True)
    return [workspace, other]


@pytest.mark.parametrize(
    ("file", "old", "new", "what"),
    [
        ("solver.prototxt", "base_lr: 0.01", "base_lr: 0.02", "another solver than the first"),
        ("net.prototxt", "kernel_size: 3", "kernel_size: 5", "another train net than the first"),
    ],
)
def test_machines_with_other_files(
    machines: list[Path], file: str, old: str, new: str, what: str
) -> None:
    replace(str(machines[1] / file), old, new)
    said = the_sentence(caffe_together(*TRAIN, folders=machines))
    assert said.startswith(f"process 1 of 2 was given {what}: checksum ")
    assert said.endswith("Give all machines the same files.")


def test_machines_with_other_data(machines: list[Path]) -> None:
    shutil.rmtree(machines[1] / "train_lmdb")
    write_database(str(machines[1] / "train_lmdb"), 11)
    said = the_sentence(caffe_together(*TRAIN, folders=machines))
    assert said.startswith(
        'process 1 of 2 was given another database for layer "data" of the train net than the'
        " first: 11 records instead of 12 records."
    )


def run_on(folders: list[Path], *more: str) -> list[Ended]:
    """Train two more iterations than before, from what `more` says."""
    for folder in folders:
        replace(str(folder / "solver.prototxt"), "max_iter: 4", "max_iter: 6")
    return caffe_together(*TRAIN, *more, folders=folders)


@pytest.mark.parametrize("flag", ["--snapshot=auto", "--snapshot=snap_iter_4.solverstate"])
def test_machines_with_the_same_snapshots_go_on(machines: list[Path], flag: str) -> None:
    assert [each.code for each in caffe_together(*TRAIN, folders=machines)] == [0, 0]
    for file in machines[0].glob("snap_*"):
        shutil.copy(file, machines[1])
    first, second = run_on(machines, flag)
    assert (first.code, second.code) == (0, 0)
    assert "Resuming from snap_iter_4.solverstate" in first.err


@pytest.mark.parametrize("flag", ["--snapshot=auto", "--snapshot=snap_iter_4.solverstate"])
def test_a_machine_that_does_not_see_the_snapshots(machines: list[Path], flag: str) -> None:
    """The first process writes them on its own disk; the others would begin anew."""
    assert [each.code for each in caffe_together(*TRAIN, folders=machines)] == [0, 0]
    said = the_sentence(run_on(machines, flag))
    assert said == (
        "process 1 of 2 does not see the snapshot that the first goes on from,"
        " snap_iter_4.solverstate: it has no snap_iter_4.solverstate. Let snapshot_prefix name a"
        " folder that all machines see."
    )


def test_a_machine_with_another_snapshot_of_that_name(machines: list[Path], caffe: Caffe) -> None:
    assert [each.code for each in caffe_together(*TRAIN, folders=machines)] == [0, 0]
    os.chdir(machines[1])
    assert caffe(*TRAIN).code == 0  # one process alone reads other records
    said = the_sentence(run_on(machines, "--snapshot=auto"))
    assert "it has another snap_iter_4.solverstate." in said


def test_another_machine_has_the_snapshots(machines: list[Path]) -> None:
    """A launcher may make another machine the first when all start again."""
    assert [each.code for each in caffe_together(*TRAIN, folders=machines)] == [0, 0]
    said = the_sentence(run_on(machines[::-1], "--snapshot=auto"))
    assert said == (
        "process 1 of 2 has found snap_iter_4.solverstate, but the first has no snapshot. Let"
        " snapshot_prefix name a folder that all machines see."
    )


def test_an_error_of_another_machine_is_told_by_the_first(machines: list[Path]) -> None:
    shutil.rmtree(machines[1] / "train_lmdb")
    said = the_sentence(caffe_together(*TRAIN, folders=machines))
    assert said.startswith("process 1 of 2: ")
    assert 'layer "data" (Data): No such file or directory.' in said


def test_a_port_in_use() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        first, second = caffe_together(*TRAIN[:2], "--patience=2", port=port)
    where = f"127.0.0.1:{port}"
    assert (first.code, second.code) == (1, 1)
    assert first.err.endswith(f"] another program listens at {where}: give another MASTER_PORT.\n")
    assert f"process 1 of 2 could not join the others at {where} within 2 s: " in second.err


def test_a_process_that_does_not_come() -> None:
    ended = caffe_together(*TRAIN[:2], "--patience=1", count=1, of=2)
    assert the_sentence(ended).endswith(" within 1 s: process 1 has not come")


def test_a_device_that_does_not_exist() -> None:
    said = the_sentence(caffe_together(*TRAIN, "--gpu=99"))
    assert said.startswith("there is no GPU 99: ")


def test_devices_that_do_not_exist(caffe: Caffe) -> None:
    run = caffe(*TRAIN, "--gpu=98,99")
    assert run.code == 1
    assert run.messages("F")[0].startswith("there is no GPU 98: ")


def test_a_master_that_does_not_answer(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():
        monkeypatch.setenv(name, value)
    run = caffe("train", "--solver=solver.prototxt", "--patience=1")
    assert run.code == 1
    (said,) = run.messages("F")
    assert said.startswith("process 0 of 2 could not join the others at 127.0.0.1:")


@pytest.fixture
def _layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """For this process, which reads the variable once, and for others: programs may differ in the
    last bits."""
    monkeypatch.setenv("MOKA_ENGINE", "layerwise")
    monkeypatch.setattr(engines, "_chosen", None)


@pytest.mark.usefixtures("_layer_by_layer")
def test_scores_are_those_of_one_process(caffe: Caffe) -> None:
    assert caffe(*TRAIN).code == 0
    words = ("test", "--model=net.prototxt", "--weights=snap_iter_4.caffemodel", "--iterations=5")
    alone = caffe(*words, "--json")
    for count in (2, 3):
        first, *others = caffe_together(*words, "--json", count=count)
        assert first.out == alone.out
        batches = [line.partition("] ")[2] for line in first.err.splitlines() if "Batch" in line]
        assert batches == [said for said in alone.messages() if said.startswith("Batch")]
        assert [other[1:] for other in others] == [("", "")] * (count - 1)


@pytest.mark.usefixtures("_layer_by_layer")
def test_features_are_those_of_one_process(caffe: Caffe) -> None:
    assert caffe(*TRAIN).code == 0
    words = ("extract_features", "snap_iter_4.caffemodel", "net.prototxt", "conv,ip")
    assert caffe(*words, "a_conv,a_ip", "5", "lmdb").code == 0
    ended = caffe_together(*words, "b_conv,b_ip", "5", "lmdb", count=3)
    assert [each.code for each in ended] == [0] * 3
    for name in ("conv", "ip"):
        alone, shared = (list(open_store(f"{which}_{name}").read()) for which in "ab")
        assert len(alone) == 20
        assert shared == alone


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--workers=2", "--gpu=0"), "--workers is for processes on the CPU: give it or --gpu"),
        (("--workers=-1",), "--workers must be >= 0, got -1."),
        (("--gpu=0,0",), "--gpu 0,0 names GPU 0 twice. Name each GPU once."),
        (("--workers=2", "--max_restarts=-1"), "--max_restarts must be >= 0, got -1."),
    ],
)
def test_flags_that_cannot_be(caffe: Caffe, flags: tuple[str, ...], said: str) -> None:
    run = caffe(*TRAIN, *flags)
    assert run.code == 1
    assert run.messages("F")[0].startswith(said)
