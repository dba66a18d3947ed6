from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from moka.cli.dry_run import _duration, bytes_text

if TYPE_CHECKING:
    from tests.cli.conftest import Caffe

TRAIN = ("train", "-solver=solver.prototxt")


@pytest.fixture(autouse=True)
def _workspace(workspace: Path) -> None:
    """All tests here run in it."""


def everything() -> dict[str, tuple[int, bytes]]:
    """Each file with its time and content; each folder with its time."""
    found = {}
    for folder, _, names in os.walk("."):
        found[folder] = (os.stat(folder).st_mtime_ns, b"")
        for name in names:
            path = Path(folder, name)
            found[str(path)] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


@pytest.mark.parametrize("flag", ["--dry-run", "-dry_run"])
def test_what_the_run_is_and_takes(caffe: Caffe, flag: str) -> None:
    before = everything()
    run = caffe(*TRAIN, flag)
    assert (run.code, run.messages("E") + run.messages("F")) == (0, [])
    assert everything() == before
    assert run.out.count("small (TRAIN): 119 parameters") == 1
    assert run.out.count("small (TEST): 119 parameters") == 1
    for part in ("data 4x1x6x6, label 4", "accuracy scalar", "InnerProduct"):
        assert part in run.out
    rows = re.findall(r"^  (\S.*?) {2,}(.+)$", run.out, re.MULTILINE)
    assert dict(rows)["parameters"] == "476 bytes"
    assert dict(rows)["histories of SGD"] == "476 bytes"
    assert [name for name, _ in rows].count("their gradients") == 1
    assert "blobs of test net #0" in dict(rows)
    assert "A snapshot takes 952 bytes on the disk." in run.out
    assert re.search(
        r"Time: about .+: 4 iterations of \S+ ms and 2 tests of 2 batches of \S+ ms \(medians of"
        r" \d on the first data, after one that did not count; without snapshots\)\.",
        run.out,
    )
    assert run.out.endswith("No problem was found. Nothing has been written.\n")
    assert not [m for m in run.messages("I") if m.startswith(("Iteration", "Snapshotting"))]


def test_a_run_that_is_resumed(caffe: Caffe) -> None:
    assert caffe(*TRAIN).code == 0
    run = caffe(*TRAIN, "--dry_run", "--snapshot=snap_iter_2.solverstate")
    assert run.code == 0
    assert ": 2 iterations of" in run.out
    assert "and 1 tests" in run.out


def test_all_problems(caffe: Caffe) -> None:
    text = Path("net.prototxt").read_text()
    Path("net.prototxt").write_text(text.replace("train_lmdb", "gone").replace("mean.b", "gone.b"))
    run = caffe(*TRAIN, "--dry_run", "--weights=gone.caffemodel")
    assert run.code == 1
    found = run.messages("E")
    assert len(found) == 3
    for sentence, part in zip(
        found, ("gone.binaryproto", "gone: ", "gone.caffemodel"), strict=True
    ):
        assert part in sentence
    assert run.messages("F") == ["solver.prototxt: 3 problems were found: this run would fail."]
    assert run.out == ""


def test_numbers_that_break_in_the_first_iterations(caffe: Caffe) -> None:
    text = Path("solver.prototxt").read_text()
    Path("solver.prototxt").write_text(text.replace("base_lr: 0.01", "base_lr: 1e30"))
    before = everything()
    run = caffe(*TRAIN, "--dry_run")
    assert run.code == 1
    (sentence,) = run.messages("E")
    assert "the loss is nan at iteration 1" in sentence
    assert "replay" not in sentence
    assert run.messages("F") == ["solver.prototxt: A problem was found: this run would fail."]
    assert everything() == before


def test_a_net_that_writes_is_not_run(caffe: Caffe) -> None:
    with open("net.prototxt", "a") as net:
        net.write('layer { name: "out" type: "HDF5Output" bottom: "ip" bottom: "label"'
                  ' hdf5_output_param { file_name: "out.h5" } }')  # fmt: skip
    run = caffe(*TRAIN, "--dry_run")
    assert run.code == 0
    assert 'Time: not estimated, for layer "out" writes a file when it runs.' in run.out
    assert not Path("out.h5").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.25, "0.25 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599.6, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(952, "952 bytes"), (1724, "1.72 kB"), (244e6, "244 MB"), (3.21e9, "3.21 GB")],
)
def test_sizes(size: float, text: str) -> None:
    assert bytes_text(size) == text
