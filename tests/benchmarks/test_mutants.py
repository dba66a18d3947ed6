"""The whole mutation check, for a small repository."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from line_tests import Record
from mutants import drawn, stages
from mutation_points import Mutant
from tests.benchmarks.conftest import BENCHMARKS

SMALL = "src/moka/part/small.py"
SOURCE = """def first(x, seen):
    seen.append(x)
    return x


def second(x):
    return x
"""
TESTS = """from moka.part.small import first, second


def test_first():
    assert first(1, []) == 1
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name, text in {
        "src/moka/__init__.py": "",
        "src/moka/part/__init__.py": "",
        SMALL: SOURCE,
        "tests/part/test_small.py": TESTS,
        "pytest.ini": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    return tmp_path


def run(folder: Path, program: str, *arguments: str) -> str:
    command = [sys.executable, f"{BENCHMARKS}/{program}", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder / "src"), "PYTEST_ADDOPTS": ""}
    return subprocess.check_output(command, cwd=folder, env=environment, text=True)


def outcomes(folder: Path) -> dict[int, str]:
    """By line."""
    lines = [json.loads(line) for line in (folder / "results").read_text().splitlines()]
    return {one["mutant"]["first"]: one["outcome"] for one in lines}


def test_mistakes_are_found_and_holes_shown(repository: Path) -> None:
    run(repository, "line_tests.py", "record.json", "tests")
    record = Record.load(repository / "record.json")
    assert [test for test, _ in record.tests] == ["tests/part/test_small.py::test_first"]
    assert record.lines == {SMALL: {2: [0], 3: [0]}}

    run(repository, "mutants.py", "--record", "record.json", "--results", "results", SMALL)
    assert outcomes(repository) == {2: "survived", 3: "killed", 7: "untested"}
    assert (repository / SMALL).read_text() == SOURCE

    more = "\n\ndef test_second():\n    assert second(3) == 3\n"
    (repository / "tests/part/test_small.py").write_text(TESTS + more)
    told = run(repository, "mutants.py", "--results", "results", "--again")
    assert outcomes(repository) == {2: "survived", 3: "killed", 7: "killed"}
    assert "| part/ | 3 | 2 | 0 | 1 | 0 |" in told


def mutant(first: int, at_import: bool = False) -> Mutant:
    return Mutant("return", 0, 1, "x", "y", first, first, at_import)


def test_tests_of_the_mirrored_file_come_first() -> None:
    own, near = "tests/part/test_small_more.py::a", "tests/part/test_other.py::a"
    record = Record(
        [("tests/test_far.py::a", 1.0), (near, 2.0), (own, 3.0), ("tests/b.py::a", 9.0)]
    )
    record.lines[SMALL] = {2: [0, 1, 2, 3], 3: [0]}
    far = "tests/test_far.py::a"
    assert stages(SMALL, mutant(2), record, 5) == [([own], 3.0), ([near, far], 3.0)]
    assert stages(SMALL, mutant(3), record, 5) == [([far], 1.0)]
    assert stages(SMALL, mutant(4), record, 5) == []
    assert stages(SMALL, mutant(1, at_import=True), record, 5) == stages(
        SMALL, mutant(2), record, 5
    )


def test_records_of_two_runs() -> None:
    one, two = Record([("a", 1.0)], {"f": {1: [0]}}), Record([("b", 2.0)], {"f": {1: [0], 2: [0]}})
    one.merge(two)
    assert one == Record([("a", 1.0), ("b", 2.0)], {"f": {1: [0, 1], 2: [1]}})


def test_longer_files_get_more_mutants(tmp_path: Path) -> None:
    for name, lines in (("short.py", 4), ("long.py", 40)):
        (tmp_path / name).write_text("x = y[1]\n" * lines)
    files = [str(tmp_path / "short.py"), str(tmp_path / "long.py")]
    found = drawn(files, 11, "1")
    assert [sum(f == file for f, _ in found) for file in files] == [1, 10]
    assert found == drawn(files, 11, "1")
    assert len(drawn(files, 1, "1")) == 2
