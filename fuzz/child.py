"""The process that feeds inputs to one reader. `run.py` forks it, watches it, and forks it again
where it ends.

The board is memory that both share: how many inputs were done, and the one that is in work, so that
it is known when the process ends in the middle.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import mmap
import os
import resource
import shutil
import struct
import sys
import tempfile
from pathlib import Path
from random import Random

from judge import Judge
from readers import Reader

from moka.heap import keep_freed_memory

KEPT = 3  # inputs of one kind of finding
POOL = 2000  # inputs that the plain loop keeps


class Board:
    """Tells the watcher what its child is doing.

    Attributes:
        done: how many inputs were done.
        input: the one in work; None: none is.
    """

    _HEAD = struct.Struct("<QQ")  # inputs done, 1 + bytes of the one in work
    _BYTES = 1 << 22

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._BYTES)

    def begin(self, data: bytes) -> None:
        """Note the input that comes next."""
        shown = data[: self._BYTES - self._HEAD.size]
        self._memory[self._HEAD.size : self._HEAD.size + len(shown)] = shown
        self._HEAD.pack_into(self._memory, 0, self.done, 1 + len(shown))

    def end(self) -> None:
        """Note that it is done."""
        self._HEAD.pack_into(self._memory, 0, self.done + 1, 0)

    @property
    def done(self) -> int:
        return int(self._HEAD.unpack_from(self._memory)[0])

    @property
    def input(self) -> bytes | None:
        size = self._HEAD.unpack_from(self._memory)[1]
        return self._memory[self._HEAD.size : self._HEAD.size + size - 1] if size else None


class Child:
    """Runs a reader on inputs and keeps what it finds.

    Args:
        board: where it notes what it does.
        findings: the folder in which findings are kept.
    """

    def __init__(self, reader: Reader, board: Board, findings: Path) -> None:
        logging.disable(logging.CRITICAL)
        keep_freed_memory()  # as commands do; and a thread then takes little address space
        self.reader = reader
        self._board = board
        self._findings = findings
        self._folder = Path(tempfile.mkdtemp(prefix="moka-fuzz-", dir=_memory_folder()))
        self._file = self._folder / f"input{reader.suffix}"
        for seed in reader.seeds():  # the process takes the memory that valid files need
            self._file.write_bytes(seed)
            with contextlib.suppress(Exception):
                reader.read(self._file)
        self._judge = Judge(stderr=not reader.may_print)
        limit = _address_space() + reader.address_space
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    def take(self, data: bytes) -> None:
        """Judge one input."""
        self._board.begin(data)
        self._file.write_bytes(data)
        if finding := self._judge.judge(self.reader.read, self._file):
            keep(self._findings, self.reader.name, finding.kind, finding.details, data)
        self._board.end()

    def mutated(self, data: bytes, rng: Random) -> bytes:
        return rng.choice(self.reader.mutate)(data, rng)[: self.reader.most_bytes]

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def keep(findings: Path, reader: str, kind: str, details: str, data: bytes) -> None:
    """Keep a finding, with a few of the shortest inputs that lead to it."""
    folder = findings / reader / hashlib.sha1(kind.encode()).hexdigest()[:10]
    folder.mkdir(parents=True, exist_ok=True)
    inputs = sorted(folder.glob("*.input"), key=lambda file: file.stat().st_size)
    if len(inputs) >= KEPT:
        if inputs[-1].stat().st_size <= len(data):
            return
        inputs[-1].unlink()
    (folder / f"{hashlib.sha1(data).hexdigest()[:10]}.input").write_bytes(data)
    (folder / "finding.txt").write_text(f"{kind}\n\n{details}", "utf-8", "replace")


def plain_loop(child: Child, inputs: int, seed: int) -> None:
    """Change seeds, and changed seeds, at random."""
    rng = Random(seed)
    seeds = child.reader.seeds()
    pool = list(seeds)
    for data in seeds[:inputs]:
        child.take(data)
    for _ in range(inputs - len(seeds)):
        data = child.mutated(rng.choice(pool), rng)
        child.take(data)
        if rng.random() < 0.1:
            if len(pool) < POOL:
                pool.append(data)
            else:
                pool[rng.randrange(min(len(seeds), POOL - 1), POOL)] = data


def guided_loop(child: Child, inputs: int, seed: int, corpus: Path) -> None:
    """Keep the inputs that reach new branches of Moka's code, and change those. Does not return."""
    import atheris

    corpus.mkdir(parents=True, exist_ok=True)
    for data in child.reader.seeds():
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)

    def mutated(data: bytes, most: int, number: int) -> bytes:
        rng = Random(number)
        if not data or rng.random() < 0.2:
            return bytes(atheris.Mutate(data, most))
        return child.mutated(data, rng)[:most]

    options = [
        f"-runs={inputs}", f"-seed={seed % (1 << 31) or 1}", f"-max_len={child.reader.most_bytes}",
        "-timeout=0", "-rss_limit_mb=0", "-malloc_limit_mb=0", "-len_control=0", "-verbosity=0",
        "-handle_alrm=0", "-reload=0", str(corpus),
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options], child.take, custom_mutator=mutated)
    atheris.Fuzz()


def _memory_folder() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()
