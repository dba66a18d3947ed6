"""The process that feeds inputs to one reader; `run.py` starts it, watches it, and starts it again.

    python fuzz/child.py READER --inputs N --seed S --board FILE --corpus FOLDER --findings FOLDER

The board is a small shared file: how many inputs were done, and the one that is in work, so that
it is known when the process ends in the middle.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import mmap
import os
import resource
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

BOARD = struct.Struct("<QQ")  # inputs done, bytes of the one in work
BOARD_BYTES = 1 << 22
ADDRESS_SPACE = 6 << 30  # beyond what the process has at its start
KEPT = 3  # inputs of one kind of finding
CORPUS = 2000  # inputs that the plain loop keeps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("reader")
    parser.add_argument("--inputs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--board", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--findings", required=True)
    given = parser.parse_args()
    loop = choose_loop()
    child = Child(given.reader, Path(given.board), Path(given.findings))
    loop(child, given.inputs, given.seed, Path(given.corpus))


def choose_loop() -> Callable[[Child, int, int, Path], None]:
    """Guided by coverage, if atheris is installed. Moka is instrumented as it is imported."""
    try:
        import atheris
    except ImportError:
        return plain_loop
    atheris.instrument_imports(include=["moka"]).__enter__()  # as long as the process lives
    return guided_loop


class Child:
    """Runs one reader on inputs and keeps what it finds.

    Args:
        name: of the reader.
        board: the shared file.
        findings: the folder in which findings are kept.
    """

    def __init__(self, name: str, board: Path, findings: Path) -> None:
        import judge
        import readers

        logging.disable(logging.CRITICAL)
        self.reader = readers.BY_NAME[name]
        self._folder = Path(tempfile.mkdtemp(prefix="moka-fuzz-", dir=_memory_folder()))
        self._file = self._folder / f"input{self.reader.suffix}"
        self._findings = findings
        with open(board, "r+b") as file:
            self._board = mmap.mmap(file.fileno(), BOARD_BYTES)
        self._done = BOARD.unpack_from(self._board)[0]
        for seed in self.reader.seeds():  # imports what it needs, and takes its memory
            self._file.write_bytes(seed)
            try:
                self.reader.read(self._file)
            except Exception:  # noqa: BLE001 - judged later
                pass
        self._judge = judge.Judge()
        limit = _address_space() + ADDRESS_SPACE
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def take(self, data: bytes) -> None:
        """Judge one input."""
        shown = data[: BOARD_BYTES - BOARD.size]
        self._board[BOARD.size : BOARD.size + len(shown)] = shown
        BOARD.pack_into(self._board, 0, self._done, len(shown))
        self._file.write_bytes(data)
        if finding := self._judge.judge(self.reader.read, self._file):
            keep(self._findings, self.reader.name, finding.kind, finding.details, data)
        self._done += 1
        BOARD.pack_into(self._board, 0, self._done, 0)

    def mutated(self, data: bytes, rng: Random) -> bytes:
        return rng.choice(self.reader.mutate)(data, rng)[: self.reader.most_bytes]


def keep(findings: Path, reader: str, kind: str, details: str, data: bytes) -> None:
    """Keep a finding, with a few of the shortest inputs that lead to it."""
    folder = findings / reader / hashlib.sha1(kind.encode()).hexdigest()[:10]
    folder.mkdir(parents=True, exist_ok=True)
    inputs = sorted(folder.glob("*.input"), key=lambda file: file.stat().st_size)
    if len(inputs) >= KEPT:
        if inputs[-1].stat().st_size <= len(data):
            return
        inputs[-1].unlink()
    name = hashlib.sha1(data).hexdigest()[:10]
    (folder / f"{name}.input").write_bytes(data)
    (folder / "finding.txt").write_text(f"{kind}\n\n{details}", "utf-8", "replace")


def plain_loop(child: Child, inputs: int, seed: int, corpus: Path) -> None:
    """Change seeds, and changed seeds, at random."""
    rng = Random(seed)
    pool = child.reader.seeds()
    for data in pool[:inputs]:
        child.take(data)
    for _ in range(inputs - len(pool)):
        data = child.mutated(rng.choice(pool), rng)
        child.take(data)
        if rng.random() < 0.1:
            if len(pool) < CORPUS:
                pool.append(data)
            else:
                pool[rng.randrange(len(child.reader.seeds()), CORPUS)] = data


def guided_loop(child: Child, inputs: int, seed: int, corpus: Path) -> None:
    """Keep the inputs that reach new branches of Moka's code, and change those."""
    import atheris

    corpus.mkdir(parents=True, exist_ok=True)
    for data in child.reader.seeds():
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)

    def mutated(data: bytes, most: int, number: int) -> bytes:
        rng = Random(number)
        if not data or rng.random() < 0.2:
            return bytes(atheris.Mutate(data, most))
        return child.mutated(data, rng)[:most]

    options: list[Any] = [
        f"-runs={inputs}", f"-seed={seed % (1 << 31) or 1}", f"-max_len={child.reader.most_bytes}",
        "-timeout=0", "-rss_limit_mb=0", "-malloc_limit_mb=0", "-len_control=0", "-verbosity=0",
        "-print_final_stats=0", "-handle_alrm=0", "-reload=0", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], child.take, custom_mutator=mutated)
    atheris.Fuzz()


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
