from __future__ import annotations

import os
import subprocess
import sys

import pytest

from moka.threads import ThreadChoice

ALL = 4


class Machine:
    """Threads as a choice sets them, and a clock that goes on by hand."""

    def __init__(self) -> None:
        self.threads = ALL
        self.now_s = 0.0
        self.choice = ThreadChoice(ALL, self.set_threads, lambda: self.now_s)
        self.seen: list[int] = []

    def set_threads(self, number: int) -> None:
        self.threads = number

    def step(self) -> None:
        """One thread takes less time than all."""
        with self.choice.step():
            self.seen.append(self.threads)
            self.now_s += 0.05 * self.threads


def test_steps_get_the_faster_number() -> None:
    machine = Machine()
    for _ in range(500):
        machine.step()
        assert machine.threads == ALL  # outside of a step
    assert machine.seen[:3] == [ALL] * 3
    assert machine.seen.count(1) > 400


def test_a_step_that_fails_gives_the_threads_back() -> None:
    machine = Machine()
    while machine.choice.threads == ALL:
        machine.step()

    def fail() -> None:
        with machine.choice.step():
            machine.seen.append(machine.threads)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert machine.seen[-1] == 1
    assert machine.threads == ALL


def asked(program: str, **variables: str) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMP", "MKL"))}
    text = f"{program}\nfrom moka.threads import may_choose\nprint(may_choose())"
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**env, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


ASK = "import moka; moka.choose_threads()"
COMMAND = "from moka.cli.main import main; main(['--version'])"


@pytest.mark.parametrize(
    ("program", "is_free"), [("import moka", "False"), (ASK, "True"), (COMMAND, "True")]
)
def test_only_who_asks_and_commands_choose(program: str, is_free: str) -> None:
    assert asked(program) == is_free


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
def test_the_environment_decides(name: str) -> None:
    assert asked(ASK, **{name: "2"}) == "False"
