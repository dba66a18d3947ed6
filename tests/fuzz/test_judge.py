"""What counts as a fault of a reader."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import judge
import pytest
from judge import Judge

from moka.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"a")
    return tmp_path / "a"


@pytest.fixture(autouse=True)
def _handler() -> Iterator[None]:
    before = {clock: signal.getsignal(clock) for clock in judge.CLOCKS}
    yield
    for clock, handler in before.items():
        signal.signal(clock, handler)


def test_results_and_sentences_are_fine(file: Path) -> None:
    def refuse(path: Path) -> None:
        raise DataError("the record is not a Datum.", file=path)

    def missing(path: Path) -> None:
        open(path / "gone")  # noqa: SIM115

    for read in (Path.read_bytes, refuse, missing):
        assert Judge().judge(read, file) is None


def test_other_errors_name_their_place(file: Path) -> None:
    from moka.files import decode_text

    def fail(path: Path) -> None:
        decode_text(3)  # type: ignore[arg-type]

    finding = Judge().judge(fail, file)
    assert finding is not None
    assert finding.kind == "AttributeError in moka/files.py:decode_text"
    assert "Traceback" in finding.details


def test_errors_without_a_sentence(file: Path) -> None:
    def empty(path: Path) -> None:
        raise DataError("  ")

    def bare(path: Path) -> None:
        raise OSError("a library's")

    assert Judge().judge(empty, file) == ("no sentence", "  ")
    finding = Judge().judge(bare, file)
    assert finding is not None
    assert finding.kind.startswith("OSError")


def test_warnings_and_what_libraries_print(file: Path) -> None:
    finding = Judge().judge(lambda path: warnings.warn("odd", stacklevel=1), file)
    assert finding is not None
    assert finding.kind.startswith("UserWarning")

    def say(path: Path) -> None:
        os.write(2, b"libpng error: bad\n")

    judges = Judge()
    assert judges.judge(say, file) == ("printed: libpng error: bad", "libpng error: bad\n")
    assert judges.judge(Path.read_bytes, file) is None
    assert Judge(stderr=False).judge(lambda path: None, file) is None


def test_limits(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(path: Path) -> None:
        while True:
            pass

    monkeypatch.setattr(judge, "MOST_SECONDS", 0.05)
    slow = Judge().judge(count, file)
    monkeypatch.setattr(judge, "MOST_SECONDS", 60.0)
    monkeypatch.setattr(judge, "MOST_WAITING_S", 0.05)
    waiting = Judge().judge(lambda path: time.sleep(9), file)
    for finding in (slow, waiting):
        assert finding is not None
        assert finding.kind.startswith("too slow")
    monkeypatch.setattr(judge, "MOST_WAITING_S", 60.0)
    monkeypatch.setattr(judge, "MOST_BYTES", 1 << 24)
    holds = Judge()
    peak = judge._peak_bytes()
    monkeypatch.setattr(judge, "_peak_bytes", lambda: peak + (1 << 25))
    finding = holds.judge(Path.read_bytes, file)
    assert finding is not None
    assert finding.kind == "too much memory"
