"""BVLC Caffe as a contender, if its `caffe` is at hand. Its memory is that of another process."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from passes import Files
from side_by_side import Run

if TYPE_CHECKING:
    from training import Case

# A line of glog, whose date has a year in later versions: I1201 16:41:53.123456 ... Iteration 0,
_ITERATION = re.compile(r"^I\d+ (\d+:\d+:\d+\.\d+) .*\bIteration (\d+)[, ]", re.MULTILINE)


def forward(files: Files, shape: Sequence[int], threads: int, *, binary: str) -> Run:
    """The forward pass, as `caffe time` tells it."""
    text = Path(files.net).read_text()
    sizes = " ".join(f"dim: {size}" for size in shape)
    resized = re.sub(r"shape\s*:?\s*\{[^}]*\}", f"shape {{ {sizes} }}", text, count=1)

    def run(iterations: int) -> float:
        with TemporaryDirectory() as folder:
            net = Path(folder, "net.prototxt")
            net.write_text(resized)
            words = ["time", f"--model={net}", f"--iterations={iterations}", "--phase=TEST"]
            log = _log_of(binary, words, threads)
        found = re.search(r"Average Forward pass: ([\d.e+-]+) ms", log)
        if found is None:
            raise RuntimeError("caffe time has told no time")
        return float(found[1]) / 1e3 * iterations

    return run


def train(case: Case, threads: int, *, binary: str) -> Run:
    """An iteration of `caffe train`, from one line of its log to another."""
    from training import solver_of

    from moka.schema import format_text

    def run(iterations: int) -> float:
        solver = solver_of(case)
        given = solver.train_net_param.layer[0]  # whose tops nobody fills here
        shapes = list(given.input_param.shape)
        given.Clear()
        given.name, given.type, given.top[:] = "data", "DummyData", ["data", "label"]
        given.dummy_data_param.shape.extend(shapes)
        for value in (0.5, 1.0):
            given.dummy_data_param.data_filler.add(type="constant", value=value)
        solver.display, solver.max_iter = iterations, iterations + 1
        solver.snapshot_after_train = False
        solver.solver_mode = solver.CPU
        with TemporaryDirectory() as folder:
            file = Path(folder, "solver.prototxt")
            file.write_text(format_text(solver))
            log = _log_of(binary, ["train", f"--solver={file}"], threads)
        return seconds_between(log, 0, iterations)

    return run


def seconds_between(log: str, first: int, last: int) -> float:
    """Seconds from the line of one iteration to that of another."""
    times = {
        int(number): datetime.strptime(time, "%H:%M:%S.%f")
        for time, number in _ITERATION.findall(log)
    }
    if not {first, last} <= times.keys():
        raise RuntimeError(f"caffe train has told no iterations {first} and {last}")
    return (times[last] - times[first]).total_seconds() % 86400


def _log_of(binary: str, words: Sequence[str], threads: int) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    env.pop("GLOG_minloglevel", None)  # of the other contenders
    ended = subprocess.run([binary, *words], env=env, capture_output=True, text=True, check=True)
    return ended.stderr
