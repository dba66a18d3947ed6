"""A short run of every reader: valid files are read, changed ones too, or refused by a sentence.

`make fuzz` runs longer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from cv2.utils import logging
from judge import CLOCKS, Judge
from readers import READERS, Reader

from moka.errors import MokaError

CHANGES = 25  # of each reader


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Readers of nets go to a folder of their own; OpenCV's log is as quiet as for commands."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    folder, before = Path.cwd(), {clock: signal.getsignal(clock) for clock in CLOCKS}
    level = logging.getLogLevel()
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    yield
    logging.setLogLevel(level)
    os.chdir(folder)
    for clock, handler in before.items():
        signal.signal(clock, handler)


@pytest.mark.parametrize("reader", READERS, ids=[reader.name for reader in READERS])
def test_a_short_run(reader: Reader, tmp_path: Path) -> None:
    if reader.name.startswith("LevelDB"):
        pytest.importorskip("plyvel")
    file = tmp_path / f"input{reader.suffix}"
    seeds = reader.seeds()
    judge = Judge(stderr=not reader.may_print)
    rng = Random(1)
    good = 0
    for data in seeds[:20]:
        file.write_bytes(data)
        with contextlib.suppress(MokaError):
            reader.read(file)
            good += 1
    assert good
    for _ in range(CHANGES):
        data = rng.choice(reader.mutate)(rng.choice(seeds), rng)
        file.write_bytes(data[: reader.most_bytes])
        finding = judge.judge(reader.read, file)
        assert finding is None, f"{finding} for {data!r}"
