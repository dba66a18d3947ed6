"""Small nets on a quiet machine, beside multi-threaded programs, and beside plain busy loops.

    python benchmarks/busy.py [--seconds 240] [--threads N] [--loads 2] [--out DIR]

A training step of LeNet (batch 64): on one thread, on all threads, as `caffe train` runs it (which
chooses between the two), and as PyTorch's threads wait by default. Passes of small nets: ONNX
Runtime on one thread and as it is by default, and `moka.load`. Contenders take turns, each in a
process of its own; before the turns that count, each runs as long without being counted. Figures
are means of turns, and of these the median. The loads are this program's own and end with it; a
machine on which others compute is no quiet one. Writes busy.json and busy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from time import sleep

import machine
import passes
from side_by_side import Contender, Place, Run, Worker
from subjects import files_of, image_shape

from moka.cores import usable_cores
from moka.waiting import SPINS

QUIET, PROGRAMS, LOOPS = "quiet", "multi-threaded programs", "busy loops"
LOADS = {  # which end with this program, however that ends
    PROGRAMS: """
import os, torch
net, x, parent = torch.nn.Conv2d(32, 32, 3), torch.rand(64, 32, 28, 28), os.getppid()
with torch.no_grad():
    while os.getppid() == parent:
        net(x).relu().sum()
""",
    LOOPS: """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(100_000): pass
""",
}
PASSES = (("LeNet", 64), ("MobileNet v2", 1))
TURNS = 3  # that count, after as many that do not
LENET = "LeNet step, 64"
SLEEP_SOON = {"GOMP_SPINCOUNT": SPINS}  # as commands do
CLEAN = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
ONE, ALL_THREADS, OURS, BEFORE = "one thread", "all threads", "Moka", "before"
TARGET = 1.2  # times the better of one thread and all
LOAD_STARTS_S = 4.0


def lenet_step(threads: int, *, chooses: bool = False) -> Run:
    from training import CASES, caffe_train

    return caffe_train(CASES["LeNet"], threads, chooses=chooses)


def contenders(threads: int, folder: Path) -> dict[str, dict[str, tuple[Contender, Place]]]:
    """By subject."""
    soon, default = Place(variables=SLEEP_SOON), Place()
    found: dict[str, dict[str, tuple[Contender, Place]]] = {
        LENET: {
            ONE: (partial(lenet_step, 1), soon),
            ALL_THREADS: (partial(lenet_step, threads), soon),
            OURS: (partial(lenet_step, threads, chooses=True), soon),
            BEFORE: (partial(lenet_step, threads), default),
        }
    }
    for net, batch in PASSES:
        inner = folder / net
        inner.mkdir()
        files, shape = files_of(net, inner), (batch, *image_shape(net, inner))
        found[f"{net} pass, {batch}"] = {
            ONE: (partial(passes.onnx_runtime, files, shape, 1), default),
            ALL_THREADS: (partial(passes.onnx_runtime, files, shape, threads), default),
            OURS: (partial(passes.module, files, shape, threads), default),
        }
    return found


@contextmanager
def loaded(state: str, count: int) -> Iterator[None]:
    """With so many programs of a kind beside us."""
    programs = [subprocess.Popen([sys.executable, "-c", LOADS[state]])
                for _ in range(count if state in LOADS else 0)]  # fmt: skip
    try:
        if programs:
            sleep(LOAD_STARTS_S)
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def measure(workers: Mapping[str, Worker], turn_s: float) -> dict[str, float]:
    """Milliseconds of each."""
    counts = dict.fromkeys(workers, 1)
    found: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(2 * TURNS):
        for name, worker in workers.items():
            ms = worker.run(counts[name]) / counts[name] * 1e3
            counts[name] = max(1, min(int(turn_s * 1e3 / ms), 10 * counts[name]))
            if turn >= TURNS:
                found[name].append(ms)
    return {name: median(times) for name, times in found.items()}


def as_markdown(head: str, figures: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    lines = [
        f"# Beside other programs\n\n{head} `python benchmarks/busy.py`. Milliseconds;"
        f" \"{BEFORE}\": PyTorch's threads wait in a loop. In brackets Moka's time by the better of"
        f" one thread and all threads; the target is {TARGET} at most.\n",
        f"| | machine | {ONE} | {ALL_THREADS} | {OURS} | {BEFORE} |",
        "|---|---|---|---|---|---|",
    ]
    for subject, states in figures.items():
        for state, found in states.items():
            best = min(found[ONE], found[ALL_THREADS])
            cells = [f"{found[name]:.2f}" if name in found else ""
                     for name in (ONE, ALL_THREADS, OURS, BEFORE)]  # fmt: skip
            cells[2] += f" ({found[OURS] / best:.2f})"
            lines.append(f"| {subject} | {state} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=240.0, help="of turns, all together")
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--loads", type=int, default=2, help="programs beside")
    parser.add_argument("--states", default=",".join((QUIET, PROGRAMS, LOOPS)))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    states: Sequence[str] = options.states.split(",")
    for name in CLEAN:
        os.environ.pop(name, None)
    os.environ["GLOG_minloglevel"] = "2"
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = contenders(options.threads, Path(folder))
        count = sum(map(len, made.values()))
        turn_s = options.seconds / (len(states) * count * 2 * TURNS)
        workers: dict[str, dict[str, Worker]] = {}
        try:
            for subject, found in made.items():
                workers[subject] = {name: Worker(*pair) for name, pair in found.items()}
            for state in states:
                with loaded(state, options.loads):
                    for subject, of_subject in workers.items():
                        figures.setdefault(subject, {})[state] = measure(of_subject, turn_s)
        finally:
            for of_subject in workers.values():
                for worker in of_subject.values():
                    worker.kill()
    head = machine.described(options.threads) + f", {options.loads} programs beside."
    options.out.mkdir(parents=True, exist_ok=True)
    text = as_markdown(head, figures)
    (options.out / "busy.md").write_text(text)
    as_json = {"machine": head, "ms": figures}
    (options.out / "busy.json").write_text(json.dumps(as_json, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
