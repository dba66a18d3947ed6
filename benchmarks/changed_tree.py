"""A copy of the repository in which files are changed, and forked processes that run its tests."""

from __future__ import annotations

import contextlib
import importlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

MEMORY = 10 << 30  # bytes of its own that a process may ask for; mapped files do not count
OPTIONS = ["-q", "--tb=no", "-p", "no:cacheprovider", "-n", "0"]
OPTIONS += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported before
KILLED, LATE, SURVIVED, UNTESTED = "killed", "late", "survived", "untested"  # outcomes


class Tree:
    """The files of `root` that git has or could have, copied to `folder`."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        listed = subprocess.check_output(
            ["git", "ls-files", "-zco", "--exclude-standard"], cwd=root
        )
        for name in listed.decode().split("\0"):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        self._clock = int(time.time())

    def write(self, file: str, source: str) -> None:
        """Each change has another second, by which Python knows that a compiled file is old."""
        (self.folder / file).write_text(source)
        self._clock += 1
        os.utime(self.folder / file, (self._clock, self._clock))

    def enter(self) -> None:
        """From now on this process and its children import the copy."""
        os.chdir(self.folder)
        for folder in (self.folder, self.folder / "src"):
            sys.path.insert(0, str(folder))
        os.environ["PYTHONPATH"] = str(self.folder / "src")

    def import_packages(self, tests: Sequence[str]) -> None:
        """Import what a run of these tests imports that is not part of the tree.

        A forked process that collects the tests tells the names.
        """
        told, tell = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                pytest.main([*OPTIONS, "--collect-only", *tests])
                names = [n for n, m in sys.modules.items() if not self._has(m)]
                os.write(tell, " ".join(names).encode())
            finally:
                os._exit(0)
        os.close(tell)
        with os.fdopen(told) as names_told:
            for name in names_told.read().split():
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
        os.waitpid(child, 0)

    def _has(self, module: ModuleType) -> bool:
        spec = getattr(module, "__spec__", None)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        return any(p is not None and Path(p).is_relative_to(self.folder) for p in places)

    def run(self, tests: Sequence[str], seconds: float) -> tuple[str, str]:
        """The outcome and the test that failed first.

        tests: names of tests, or of files of which all tests run. seconds: how long they may take
        where nothing is changed.
        """
        code, failed = _finished(tests, seconds, first_failure_only=True)
        if code is None or code == -signal.SIGXCPU:
            return LATE, ""
        if code == pytest.ExitCode.OK:
            return SURVIVED, ""
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            return UNTESTED, ""
        return KILLED, failed[0] if failed else ""

    def failing(self, tests: Sequence[str]) -> list[str]:
        """Those of the tests that fail."""
        return _finished(tests, 5.0 * len(tests), first_failure_only=False)[1]


def _finished(
    tests: Sequence[str], seconds: float, *, first_failure_only: bool
) -> tuple[int | None, list[str]]:
    """The exit code of a child that runs the tests (None: it took too long); which failed."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            options = [*OPTIONS, *(["-x"] if first_failure_only else [])]
            _run_tests(tests, options, output.fileno(), int(6 + 3 * seconds))
        status = _wait(child, 45 + 6 * seconds)
        output.seek(0)
        lines = [line for line in output if line.startswith(("FAILED ", "ERROR "))]
    failed = [line.split(" - ")[0].split(" ", 1)[1].strip() for line in lines]
    return None if status is None else os.waitstatus_to_exitcode(status), failed


class _Wanted:
    """A plugin of pytest that runs the tests of these names or files only, in their order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.places = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        placed = [(self._place(item), item) for item in items]
        wanted = [(place, item) for place, item in placed if place is not None]
        items[:] = [item for _, item in sorted(wanted, key=lambda one: one[0])]

    def _place(self, item: pytest.Item) -> int | None:
        return self.places.get(item.nodeid, self.places.get(item.nodeid.partition("::")[0]))


def _run_tests(tests: Sequence[str], options: list[str], output: int, cpu_s: int) -> None:
    """In a child: run, and end with pytest's exit code."""
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        files = dict.fromkeys(name.partition("::")[0] for name in tests)
        code = int(pytest.main([*options, *files], plugins=[_Wanted(tests)]))
    finally:
        sys.stdout.flush()
        os._exit(code)


def _wait(child: int, seconds: float) -> int | None:
    """The status of the child; None if it took too long. Its own children are ended with it."""
    end = time.monotonic() + seconds
    status = None
    while status is None and time.monotonic() < end:
        done, found = os.waitpid(child, os.WNOHANG)
        if done:
            status = found
        else:
            time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status
