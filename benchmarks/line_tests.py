"""Which tests execute which lines: one run of the tests under a tracer.

python benchmarks/line_tests.py RECORD.json [pytest's arguments]
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

SOURCE = Path("src/moka")  # below the folder in which this runs
Tracer = Callable[[FrameType, str, Any], Any]


@dataclass
class Record:
    """tests: each test and the seconds it took; lines: file -> line -> indices into `tests`.

    Files are named from the root of the repository. A line that only an import executes is missing.
    """

    tests: list[tuple[str, float]] = field(default_factory=list)
    lines: dict[str, dict[int, list[int]]] = field(default_factory=dict)

    def add(self, test: str, seconds: float, seen: dict[str, set[int]]) -> None:
        index = len(self.tests)
        self.tests.append((test, seconds))
        for file, lines in seen.items():
            of_file = self.lines.setdefault(file, {})
            for line in lines:
                of_file.setdefault(line, []).append(index)

    def merge(self, other: Record) -> None:
        first = len(self.tests)
        self.tests += other.tests
        for file, lines in other.lines.items():
            of_file = self.lines.setdefault(file, {})
            for line, tests in lines.items():
                of_file.setdefault(line, []).extend(first + t for t in tests)

    def without(self, names: Collection[str]) -> Record:
        left = {t for t, (name, _) in enumerate(self.tests) if name not in names}
        return Record(
            self.tests,
            {
                file: {line: [t for t in tests if t in left] for line, tests in of_file.items()}
                for file, of_file in self.lines.items()
            },
        )

    def save(self, path: Path) -> None:
        path.write_text(json.dumps({"tests": self.tests, "lines": self.lines}))

    @staticmethod
    def load(path: Path) -> Record:
        found = json.loads(path.read_text())
        lines = {
            file: {int(line): tests for line, tests in of_file.items()}
            for file, of_file in found["lines"].items()
        }
        return Record([(name, seconds) for name, seconds in found["tests"]], lines)


class Recorder:
    """A plugin of pytest that fills a Record. Child processes are not seen."""

    def __init__(self, root: Path) -> None:
        self.record = Record()
        self.root = root
        self.seen: dict[str, set[int]] = {}
        self.tracers: dict[str, Tracer | None] = {}
        self.seconds = 0.0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds += report.duration

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        for lines in self.seen.values():
            lines.clear()
        self.seconds = 0.0
        threading.settrace(self.enter)
        sys.settrace(self.enter)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            seen = {file: lines for file, lines in self.seen.items() if lines}
            self.record.add(item.nodeid, self.seconds, seen)

    def enter(self, frame: FrameType, event: str, arg: object) -> Tracer | None:
        file = frame.f_code.co_filename
        try:
            return self.tracers[file]
        except KeyError:
            return self.tracers.setdefault(file, self.tracer(Path(file)))

    def tracer(self, file: Path) -> Tracer | None:
        """Notes the lines of this file; None if it is none of ours."""
        if not file.is_relative_to(self.root / SOURCE):
            return None
        lines = self.seen.setdefault(str(file.relative_to(self.root)), set())

        def trace(frame: FrameType, event: str, arg: object) -> Tracer:
            lines.add(frame.f_lineno)
            return trace

        return trace


def main() -> None:
    target, *arguments = sys.argv[1:]
    recorder = Recorder(Path.cwd())
    pytest.main(["-q", "-p", "no:cacheprovider", "-n", "0", *arguments], plugins=[recorder])
    recorder.record.save(Path(target))


if __name__ == "__main__":
    main()
