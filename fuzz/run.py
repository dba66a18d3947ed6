"""Feed changed files to every reader: none may crash, hang, or take much memory.

    python fuzz/run.py --inputs 1000000
    python fuzz/run.py --inputs 5000 --readers LMDB,caffemodel
    python fuzz/run.py --again      # what was found, after it was mended

Each reader runs in a process of its own with limits, which is started again where it ends. Whatever
is not a result or one clear sentence is a finding: another exception, a warning, something printed,
more than 5 seconds of processor time, more than 1 GB beyond what valid files take, the end of the
process. Findings are kept in --folder, a few of the shortest inputs of each kind; the exit code is
1 if there are any. With the package atheris the inputs are guided by coverage; else they are
changed at random.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:  # imported late, so that Moka's code can be watched
    from child import Board
    from readers import Reader

FUZZ = Path(__file__).parent
DEAD_AFTER_S = 60.0  # without an input done: it is in a library that no alarm interrupts
START_S = 300.0  # until the first input
MOST_DEATHS = 50  # of one reader's process
COUNTS = "counts.json"


class Outcome(NamedTuple):
    """What one reader was given: inputs; the seconds that it took, and how often its process
    ended early."""

    inputs: int
    seconds: float
    deaths: int


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="of all readers together")
    parser.add_argument("--readers", default="", help="names, with commas between; all if empty")
    parser.add_argument("--seconds", type=float, default=0, help="at most, of each reader")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--again", action="store_true", help="only what was found before")
    parser.add_argument("--folder", default=".fuzz", help="for findings, inputs and counts")
    given = parser.parse_args(argv)
    folder = Path(given.folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    prepare()
    import readers

    chosen = [readers.BY_NAME[n] for n in given.readers.split(",") if n] or list(readers.READERS)
    total = sum(reader.share for reader in chosen)
    import_all(chosen)
    for reader in chosen:
        found_before = _take_found(folder, reader.name) if given.again else []
        if given.again and not found_before:
            continue
        wanted = len(found_before) or round(given.inputs * reader.share / total)
        work = Work(reader, wanted, given.seed, folder, found_before)
        outcome = run_reader(work, given.seconds)
        if not given.again:
            _count(folder, reader.name, outcome.inputs)
        rate = outcome.inputs / max(outcome.seconds, 1e-9)
        deaths = f", its process ended {outcome.deaths} times" if outcome.deaths else ""
        print(
            f"{reader.name:20} {outcome.inputs:9,} inputs {rate:7.0f} a second{deaths}", flush=True
        )
    found = sorted((folder / "findings").glob("*/*/finding.txt"))
    for file in found:
        print(f"{file.parent}: {file.read_text().splitlines()[0]}")
    print(f"{len(found)} kinds of findings; {sum(_counts(folder).values()):,} inputs so far.")
    return int(bool(found))


def prepare() -> None:
    """Let Moka's code be watched as it is imported, if atheris is there."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "MOKA_ENGINE": "layerwise",
        "OPENCV_LOG_LEVEL": "SILENT",
    }  # as commands set it
    sys.path += [str(FUZZ), str(FUZZ.parent)]
    with suppress(ImportError):
        import atheris

        atheris.instrument_imports(include=["moka"]).__enter__()  # as long as the process lives


def import_all(chosen: Iterable[Reader]) -> None:
    """Have each reader import what it needs, by a file that holds nothing."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(io.StringIO()):
        for reader in chosen:
            file = Path(folder, f"empty{reader.suffix}")
            file.write_bytes(b"")
            with suppress(Exception):
                reader.read(file)


class Work(NamedTuple):
    """What a reader is to be given.

    Attributes:
        inputs: how many.
        seed: of the changes.
        folder: for findings and for the inputs that coverage keeps.
        given: these inputs and no others, if there are any.
    """

    reader: Reader
    inputs: int
    seed: int
    folder: Path
    given: Sequence[bytes] = ()


def run_reader(work: Work, seconds: float = 0) -> Outcome:
    """Give a reader its inputs, in as many processes as it takes.

    Args:
        seconds: at most; 0: as long as it takes.
    """
    from child import Board, keep

    board = Board()
    start = time.monotonic()
    deaths = 0
    while board.done < work.inputs and deaths < MOST_DEATHS:
        left = seconds - (time.monotonic() - start) if seconds else float("inf")
        if left <= 0:
            break
        log = work.folder / "child.log"
        process = os.fork()
        if not process:
            _be_child(work._replace(seed=work.seed + deaths), board, log)
        why, code = _watch(process, board, left)
        if why == "time":
            break
        said = log.read_bytes()[-3000:].decode(errors="replace")
        data = board.input
        if data is not None:
            deaths += 1
            keep(work.folder / "findings", work.reader.name, why, said, data)
            board.end()
        elif code or not board.done:
            raise SystemExit(f"the process for {work.reader.name} failed ({code}):\n{said}")
    return Outcome(board.done, time.monotonic() - start, deaths)


def _be_child(work: Work, board: Board, log: Path) -> NoReturn:
    """Take inputs in a process of its own, and end it."""
    from child import Child, guided_loop, plain_loop

    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(target, 1)
    os.dup2(target, 2)
    code = 1
    try:
        child = Child(work.reader, board, work.folder / "findings")
        left = work.inputs - board.done
        if work.given:
            for data in work.given[board.done :]:
                child.take(data)
        elif "atheris" in sys.modules and work.reader.is_guided:
            guided_loop(child, left, work.seed, work.folder / "corpus" / work.reader.name)
        else:
            plain_loop(child, left, work.seed)
        child.close()
        code = 0
    except BaseException:  # noqa: BLE001 - it goes to the log
        traceback.print_exc()
    finally:
        os._exit(code)


def _take_found(folder: Path, reader: str) -> list[bytes]:
    """The inputs that were found for a reader, which are then no findings any more."""
    found = folder / "findings" / reader
    inputs = [file.read_bytes() for file in sorted(found.glob("*/*.input"))]
    shutil.rmtree(found, ignore_errors=True)
    return inputs


def _watch(process: int, board: Board, left: float) -> tuple[str, int]:
    """Wait for a process; returns why it ended, and its exit code."""
    start = moved = time.monotonic()
    before = board.done
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return f"the process ended with code {code}", code
        time.sleep(0.2)
        now = time.monotonic()
        if board.done != before or (board.input is None and now - start < START_S):
            before, moved = board.done, now
        if now - start > left or now - moved > DEAD_AFTER_S:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return ("time" if now - start > left else "no end"), -signal.SIGKILL


def _counts(folder: Path) -> dict[str, int]:
    file = folder / COUNTS
    counts: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    return counts


def _count(folder: Path, name: str, inputs: int) -> None:
    """Add to the inputs that a reader has been given in all runs so far."""
    counts = _counts(folder)
    counts[name] = counts.get(name, 0) + inputs
    (folder / COUNTS).write_text(json.dumps(counts, indent=1))


if __name__ == "__main__":
    sys.exit(main())
