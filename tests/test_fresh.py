"""A program that is run by a fork ends and speaks as one of a new Python."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fresh import run_program


def test_it_knows_nothing_of_moka_and_stands_where_it_is_asked(tmp_path: Path) -> None:
    program = """
import os, sys
print(sorted({name.partition(".")[0] for name in sys.modules} & {"moka", "caffe", "pytest"}))
print(os.getcwd(), os.environ, sys.argv, __name__)
print("worse", file=sys.stderr)
"""
    done = run_program(program, tmp_path, {"ONE": "1"})
    said = f"[]\n{tmp_path} environ({{'ONE': '1'}}) ['-c'] __main__\n"
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, said, b"worse\n")


@pytest.mark.parametrize(
    ("program", "code"),
    [("raise SystemExit(3)", 3), ("1 / 0", 1), ("import os; os.kill(os.getpid(), 9)", -9)],
)
def test_its_exit_code(program: str, code: int) -> None:
    done = run_program(program)
    assert done.returncode == code
    assert (b"ZeroDivisionError" in done.stderr) == (code == 1)


def test_what_runs_at_the_end() -> None:
    done = run_program("import atexit; atexit.register(print, 'late'); print('early')")
    assert done.stdout == b"early\nlate\n"
