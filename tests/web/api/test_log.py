"""Lines of the log, written together."""

from __future__ import annotations

import asyncio
import io

import pytest

from moka.web.api import log
from moka.web.api.log import LineWriter


class Closed(io.StringIO):
    """A pipe that nobody reads."""

    tries = 0

    def write(self, text: str) -> int:
        self.tries += 1
        raise BrokenPipeError


def written(file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is in the file after each of two rounds of lines."""
    monkeypatch.setattr(log, "TOGETHER_S", 0)
    seen = []

    async def write() -> None:
        writer = LineWriter(file)
        for lines in (("a", "b"), ("c",)):
            for line in lines:
                writer(line)
            seen.append(file.getvalue())
            await asyncio.sleep(0.01)
        writer.flush()
        seen.append(file.getvalue())

    asyncio.run(write())
    return seen


def test_lines_of_a_moment_are_written_together(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_, last = written(io.StringIO(), monkeypatch)
    assert (first, last) == ("", "a\nb\nc\n")


def test_a_log_that_nobody_reads_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Closed()
    written(file, monkeypatch)
    assert file.tries == 1
