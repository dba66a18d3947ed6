"""One table of commands: what else is told of them agrees with it."""

from __future__ import annotations

import inspect
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from moka.command.actions import ACTIONS
from moka.command.commands import Command, load_function
from moka.command.flags import COMMON
from moka.command.table import COMMANDS, flags_of, scripts

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_installed_programs() -> None:
    assert tomllib.loads(PYPROJECT.read_text())["project"]["scripts"] == scripts()


@pytest.mark.parametrize("target", sorted(set(scripts().values())))
def test_every_program_can_be_loaded(target: str) -> None:
    parameters = inspect.signature(load_function(target)).parameters
    assert all(p.default is not p.empty for p in parameters.values())  # called without arguments


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda command: command.name)
def test_every_command_is_complete(command: Command) -> None:
    assert callable(command.load())
    assert command.help
    assert command.help[0].islower()
    assert not command.help.endswith(".")
    names = [f.name for f in (*command.flags, *COMMON)] + [
        f.short for f in command.flags if f.short
    ]
    assert len(set(names)) == len(names)
    for flag in command.flags:
        assert flag.help
        assert not flag.choices or flag.default in (*flag.choices, "")


def test_flags_of_actions_agree() -> None:
    """They accept each other's, so a name has to take one kind of value; what it says of an action
    may differ."""
    known: dict[str, object] = {}
    for flag in (flag for action in ACTIONS for flag in action.flags):
        alike = replace(flag, help="")
        assert known.setdefault(flag.name, alike) == alike


def test_flags_of() -> None:
    train, draw = flags_of(COMMANDS["train"]), flags_of(COMMANDS["draw_net"])
    assert {"solver", "model", "phase", "log_dir"} <= train.keys()
    assert draw.keys() == {"rankdir", "phase", "display_lrm"} | {f.name for f in COMMON}


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ("", [0]),
        ("A B", [2]),
        ("A [B]", [1, 2]),
        ("A...", [1, 2, 3, 4]),
        ("[A...]", [0, 1, 2, 3, 4]),
    ],
)
def test_numbers_of_arguments(arguments: str, accepted: list[int]) -> None:
    command = Command("x", "y:z", "help", arguments)
    assert [n for n in range(5) if command.accepts(n)] == accepted
