"""Feed changed files to every reader: none may crash, hang, or take much memory.

    python fuzz/run.py --inputs 1000000
    python fuzz/run.py --inputs 5000 --readers LMDB,caffemodel

Each reader runs in a process of its own with limits, which is started again where it ends. Whatever
is not a result or one clear sentence is a finding: another exception, a warning, something printed,
more than 5 seconds, more than 1 GB beyond what the process held, the end of the process. Findings are kept in
--folder, a few of the shortest inputs of each kind; the exit code is 1 if there are any. With the
package atheris the inputs are guided by coverage; without it they are changed at random.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from child import BOARD, BOARD_BYTES, keep

ROOT = Path(__file__).parents[1]
DEAD_AFTER_S = 20.0  # without an input done: it is in a library that no alarm interrupts
START_S = 300.0  # until the first input
MOST_DEATHS = 50  # of one reader's process
COUNTS = "counts.json"


class Outcome(NamedTuple):
    """Inputs that one reader was given, the seconds that it took, and why its process ended early:
    how often."""

    inputs: int
    seconds: float
    deaths: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all readers together")
    parser.add_argument("--readers", default="", help="names, with commas between; all if empty")
    parser.add_argument("--seconds", type=float, default=0, help="at most, of each reader")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--folder", default=".fuzz", help="for findings, inputs and counts")
    given = parser.parse_args()
    shares = _shares()
    names = given.readers.split(",") if given.readers else list(shares)
    total = sum(shares[name] for name in names)
    folder = Path(given.folder).absolute()
    for name in names:
        wanted = round(given.inputs * shares[name] / total)
        outcome = run_reader(name, wanted, given.seconds, given.seed, folder)
        _count(folder, name, outcome)
        rate = outcome.inputs / max(outcome.seconds, 1e-9)
        deaths = f", its process ended {outcome.deaths} times" if outcome.deaths else ""
        print(f"{name:24} {outcome.inputs:9,} inputs {rate:7.0f} a second{deaths}", flush=True)
    found = sorted((folder / "findings").glob("*/*/finding.txt"))
    for file in found:
        print(f"{file.parent}: {file.read_text().splitlines()[0]}")
    print(f"{len(found)} kinds of findings; {sum(_counts(folder).values()):,} inputs so far.")
    return int(bool(found))


def _shares() -> dict[str, float]:
    """Each reader's share of the inputs; asked in another process, which takes the memory."""
    code = "import readers, json; print(json.dumps({r.name: r.share for r in readers.READERS}))"
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), stdout=subprocess.PIPE,
                          cwd=ROOT / "fuzz", check=True)  # fmt: skip
    shares: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return shares


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "fuzz"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    own = {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1",
           "MOKA_ENGINE": "layerwise"}  # fmt: skip
    return os.environ | own


def run_reader(name: str, inputs: int, seconds: float, seed: int, folder: Path) -> Outcome:
    """Give a reader this many inputs, in as many processes as it takes."""
    start = time.monotonic()
    findings = folder / "findings"
    folder.mkdir(parents=True, exist_ok=True)
    board = folder / "board"
    board.write_bytes(bytes(BOARD_BYTES))
    deaths = 0
    while (done := _board(board)[0]) < inputs and deaths < MOST_DEATHS:
        left = seconds - (time.monotonic() - start) if seconds else float("inf")
        if left <= 0:
            break
        command = [sys.executable, str(ROOT / "fuzz" / "child.py"), name,
                   f"--inputs={inputs - done}", f"--seed={seed + deaths}", f"--board={board}",
                   f"--corpus={folder / 'corpus' / name}", f"--findings={findings}"]  # fmt: skip
        with open(folder / "child.log", "wb") as log:
            process = subprocess.Popen(command, env=_environment(), stdout=log, stderr=log)
            why = _watch(process, board, left)
        done, data = _board(board)
        if why == "time":
            break
        if data is not None:
            said = (folder / "child.log").read_bytes()[-3000:].decode(errors="replace")
            deaths += 1
            keep(findings, name, why, said, data)
            BOARD.pack_into(memory := bytearray(BOARD_BYTES), 0, done + 1, 0)
            board.write_bytes(memory)
        elif process.returncode:
            said = (folder / "child.log").read_text(errors="replace")
            raise SystemExit(f"the process for {name} failed:\n{said[-3000:]}")
        elif done == 0:
            raise SystemExit(f"the process for {name} did nothing")
    return Outcome(_board(board)[0], time.monotonic() - start, deaths)


def _watch(process: subprocess.Popen[bytes], board: Path, left: float) -> str:
    """Wait for a process; returns why it ended."""
    start = moved = time.monotonic()
    before = -1
    while process.poll() is None:
        time.sleep(0.2)
        now, (done, data) = time.monotonic(), _board(board)
        if done != before or (data is None and now - start < START_S):
            before, moved = done, now
        if now - start > left or now - moved > DEAD_AFTER_S:
            process.kill()
            process.wait()
            return "time" if now - start > left else "no end"
    return f"the process ended with code {process.returncode}"


def _board(file: Path) -> tuple[int, bytes | None]:
    """How many inputs were done, and the one that is in work."""
    content = file.read_bytes()
    done, size = BOARD.unpack_from(content)
    return done, content[BOARD.size : BOARD.size + size] if size else None


def _counts(folder: Path) -> dict[str, int]:
    file = folder / COUNTS
    counts: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    return counts


def _count(folder: Path, name: str, outcome: Outcome) -> None:
    """Add to the inputs that a reader has been given in all runs so far."""
    counts = _counts(folder)
    counts[name] = counts.get(name, 0) + outcome.inputs
    (folder / COUNTS).write_text(json.dumps(counts, indent=1))


if __name__ == "__main__":
    sys.exit(main())
