from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys
from moka.waiting import sleep_soon
sleep_soon()
print(os.environ.get("GOMP_SPINCOUNT"))
"""
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def spins(program: str = PROGRAM, **chosen: str) -> str:
    free = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**free, **chosen},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_threads_sleep_soon() -> None:
    assert spins() == "3000"


@pytest.mark.parametrize("name", CHOICES)
def test_the_environment_decides(name: str) -> None:
    assert spins(**{name: "7"}) == ("7" if name == "GOMP_SPINCOUNT" else "None")


def test_too_late_for_an_openmp_that_runs() -> None:
    assert spins(f"import torch\n{PROGRAM}") == "None"


def test_commands_do_it() -> None:
    program = """
import os
from moka.cli.main import main
main(["--version"])
print(os.environ.get("GOMP_SPINCOUNT"))
"""
    assert spins(program).split()[-1] == "3000"
