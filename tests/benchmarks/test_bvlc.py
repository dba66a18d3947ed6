from __future__ import annotations

import stat
import sys
from pathlib import Path

import bvlc
import pytest
from passes import Files
from training import CASES

LOG = """\
I1201 23:59:59.500000  7 solver.cpp:239] Iteration 0 (-4e+33 iter/s, 0s/5 iters), loss = 2.3
I1201 23:59:59.500010  7 solver.cpp:258]     Train net output #0: loss = 2.3
I20271202 00:00:02.000000  7 solver.cpp:239] Iteration 5 (2 iter/s, 2.5s/5 iters), loss = 2.2
"""


def program(folder: Path, text: str) -> str:
    """A program that stands for `caffe`."""
    file = folder / "caffe"
    file.write_text(f"#!{sys.executable}\nimport sys\n{text}")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return str(file)


def test_the_time_between_lines_of_a_log() -> None:
    assert bvlc.seconds_between(LOG, 0, 5) == 2.5
    with pytest.raises(RuntimeError, match="no iterations 0 and 6"):
        bvlc.seconds_between(LOG, 0, 6)


def test_a_forward_pass(tmp_path: Path) -> None:
    text = """
assert "shape { dim: 4 dim: 3 }" in open(sys.argv[2].removeprefix("--model=")).read()
print("I1 Average Forward pass: 1.5 ms.", file=sys.stderr)"""
    net = tmp_path / "net.prototxt"
    net.write_text('layer { type: "Input" input_param { shape: { dim: 1 dim: 3 } } }')
    run = bvlc.forward(Files(str(net), "", "", ""), (4, 3), 1, binary=program(tmp_path, text))
    assert run(10) == pytest.approx(0.015)
    assert {file.name for file in tmp_path.iterdir()} == {"net.prototxt", "caffe"}


def test_a_training(tmp_path: Path) -> None:
    text = f"""
solver = open(sys.argv[2].removeprefix("--solver=")).read()
assert sys.argv[1] == "train" and "max_iter: 6" in solver and '"DummyData"' in solver, solver
print({LOG!r}, file=sys.stderr)"""
    assert bvlc.train(CASES["LeNet"], 1, binary=program(tmp_path, text))(5) == 2.5
