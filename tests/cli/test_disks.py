"""What every command that writes does on a disk that is full, write-protected or broken."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.cli.conftest import NET, SOLVER, Caffe, caffe, workspace
from tests.disks import Disk, disk

from moka.solver.solver import Solver

__all__ = ["caffe", "disk", "workspace"]

DATA, LOSS = NET.index('layer {\n  name: "data"'), NET.index('layer { name: "loss"')
DEPLOY = NET[:DATA] + """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 1 dim: 1 dim: 6 dim: 6 } } }
""" + NET[NET.index('layer {\n  name: "conv"'):LOSS]  # fmt: skip
MODEL = "snap_iter_4.caffemodel"
WRITERS = {
    "snapshots": ("train", "--solver=on_disk.prototxt"),
    "convert_imageset": ("convert_imageset", "images/", "list.txt", "DISK/out"),
    "leveldb": ("convert_imageset", "--backend=leveldb", "images/", "list.txt", "DISK/out"),
    "compute_image_mean": ("compute_image_mean", "train_lmdb", "DISK/out"),
    "extract_features": ("extract_features", MODEL, "net.prototxt", "ip", "DISK/out", "3", "lmdb"),
    "hdf5 output": ("test", "--model=hdf5.prototxt", f"--weights={MODEL}", "--iterations=2"),
    "onnx": ("export", "--model=deploy.prototxt", f"--weights={MODEL}", "-o", "DISK/out.onnx"),
    "pytorch": ("export", "--model=deploy.prototxt", f"--weights={MODEL}", "-o", "DISK/out.py"),
    "draw_net": ("draw_net", "deploy.prototxt", "DISK/out.png"),
    "upgrade": ("upgrade_net_proto_text", "net.prototxt", "DISK/out"),
    "upgrade_binary": ("upgrade_net_proto_binary", MODEL, "DISK/out"),
    "plot": ("plot", "run.jsonl", "-o", "DISK/out.png"),
    "parse_log": ("parse_log", "run.jsonl", "DISK"),
}  # fmt: skip


@pytest.fixture
def trained(workspace: Path, caffe: Caffe) -> Path:
    """What the writers read."""
    Path("deploy.prototxt").write_text(DEPLOY)
    assert caffe("train", "--solver=solver.prototxt", "--json_log=run.jsonl").code == 0
    Path("images").mkdir()
    rng = np.random.default_rng(3)
    for i in range(9):
        cv2.imwrite(f"images/{i}.png", rng.integers(0, 256, (40, 40, 3), np.uint8))
    Path("list.txt").write_text("".join(f"{i}.png {i % 3}\n" for i in range(9)))
    return workspace


def words(writer: str, folder: Path) -> list[str]:
    """The writer's words, writing into this folder."""
    if writer == "leveldb":
        pytest.importorskip("plyvel")
    Path("on_disk.prototxt").write_text(SOLVER.replace('"snap"', f'"{folder}/snap"'))
    output = f'hdf5_output_param {{ file_name: "{folder}/out.h5" }}'
    layer = f'layer {{ name: "out" type: "HDF5Output" bottom: "ip" bottom: "label" {output} }}\n'
    Path("hdf5.prototxt").write_text(NET + layer)
    return [word.replace("DISK", str(folder)) for word in WRITERS[writer]]


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(caffe: Caffe, disk: Disk, writer: str) -> None:
    """One sentence names the file; nothing is left half; with room it works."""
    argv = words(writer, disk.path)
    for leave in (0, 4096):
        disk.fill(leave)
        full = caffe(*argv)
        if leave and not full.code:  # it was small enough
            break
        assert full.code == 1
        (said,) = full.messages("F")
        assert str(disk.path) in said
        assert "No space left on device" in said or "The disk is full" in said
        assert "Traceback" not in full.err
        assert [name for name in disk.files if name not in ("out.h5", "run.jsonl.train")] == []
        disk.clear()
    for path in disk.path.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert caffe(*argv).code == 0
    assert disk.files


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("writer", WRITERS)
def test_a_folder_that_is_write_protected(caffe: Caffe, disk: Disk, writer: str) -> None:
    argv = words(writer, disk.path)
    disk.write_protect()
    refused = caffe(*argv)
    assert refused.code == 1
    (said,) = refused.messages("F")
    assert str(disk.path) in said
    assert "Read-only file system" in said
    assert "Traceback" not in refused.err


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("flag", ["json_log", "tensorboard", "log_dir"])
def test_records_on_a_write_protected_disk(caffe: Caffe, disk: Disk, flag: str) -> None:
    disk.write_protect()
    refused = caffe("train", "--solver=solver.prototxt", f"--{flag}={disk.path}/out")
    assert refused.code == 1
    says = f"--{flag} {disk.path}/out cannot be written: Read-only file system."
    assert refused.messages("F") == [says]


def final_files(iteration: int = 4) -> list[bytes]:
    kinds = ("caffemodel", "solverstate")
    return [Path(f"snap_iter_{iteration}.{kind}").read_bytes() for kind in kinds]


def filling(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let something happen before the second iteration of a run."""
    iterate = Solver._iterate

    def acted(self: Solver) -> None:
        if self.iteration == 1:
            act()
        iterate(self)

    monkeypatch.setattr(Solver, "_iterate", acted)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("flag", ["json_log", "tensorboard", "log_dir"])
def test_a_disk_that_fills_up_costs_records_and_not_the_run(
    caffe: Caffe, disk: Disk, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It tells once."""
    longer = SOLVER.replace("max_iter: 4", "max_iter: 80").replace("snapshot: 2", "snapshot: 80")
    Path("solver.prototxt").write_text(longer)
    assert caffe("train", "--solver=solver.prototxt").code == 0
    wanted = final_files(80)
    filling(monkeypatch, disk.fill)
    run = caffe("train", "--solver=solver.prototxt", f"--{flag}={disk.path}/out")
    assert run.code == 0
    assert final_files(80) == wanted
    assert run.err.count("cannot be written: No space left on device. The run goes on") == 1
    assert "Traceback" not in run.err


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("writer", ["snapshots", "compute_image_mean", "onnx", "draw_net"])
def test_a_disk_that_breaks(
    caffe: Caffe, tmp_path: Path, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error at the last moment, when the disk is asked whether it has all; old files stay."""
    folder = tmp_path / "out"
    folder.mkdir()
    argv = words(writer, folder)
    assert caffe(*argv).code == 0
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", broken)
    run = caffe(*argv)
    assert run.code == 1
    (said,) = run.messages("F")
    assert str(folder) in said
    assert "Input/output error" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


BROKEN = "/proc/self/mem"  # it can be opened, and every read is an error


@pytest.mark.skipif(not os.path.exists(BROKEN), reason="needs a file that cannot be read")
@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(
    "argv",
    [
        ("train", f"--solver={BROKEN}"),
        ("train", "--solver=solver.prototxt", f"--weights={BROKEN}"),
        ("train", "--solver=solver.prototxt", f"--snapshot={BROKEN}"),
        ("test", "--model=net.prototxt", f"--weights={BROKEN}"),
        ("convert_imageset", "images/", BROKEN, "out"),
        ("parse_log", BROKEN, "."),
        ("export", f"--model={BROKEN}", f"--weights={MODEL}", "-o", "out.onnx"),
    ],
)
def test_files_that_cannot_be_read(caffe: Caffe, argv: tuple[str, ...]) -> None:
    run = caffe(*argv)
    assert run.code == 1
    (said,) = run.messages("F")
    assert BROKEN in said
    assert "Input/output error" in said
    assert "Traceback" not in run.err


@pytest.mark.usefixtures("workspace")
def test_a_clock_that_jumps(caffe: Caffe, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a day, forth and back; the numbers are those of a run with a good clock."""
    assert caffe("train", "--solver=solver.prototxt").code == 0
    wanted = final_files()
    now = time.time
    jumps: Iterator[int] = cycle((0, 86400, -86400))
    monkeypatch.setattr(time, "time", lambda: now() + next(jumps))
    files = ("--json_log=run.jsonl", "--tensorboard=runs", "--log_dir=logs")
    run = caffe("train", "--solver=solver.prototxt", *files)
    assert run.code == 0
    assert final_files() == wanted
    lines = Path("run.jsonl").read_text().splitlines()
    records: list[dict[str, Any]] = list(map(json.loads, lines))
    assert records[-1]["record"] == "SolvingCompleted"
    assert 0 <= records[-1]["elapsed_s"] < 3600
    assert caffe("parse_log", "run.jsonl", ".").code == 0


@pytest.mark.usefixtures("workspace")
def test_a_database_that_is_removed_under_a_run(
    caffe: Caffe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run has it open, so it goes on."""
    assert caffe("train", "--solver=solver.prototxt").code == 0
    wanted = final_files()
    filling(monkeypatch, lambda: shutil.rmtree("train_lmdb"))
    assert caffe("train", "--solver=solver.prototxt").code == 0
    assert final_files() == wanted
