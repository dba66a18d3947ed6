"""The help of the program and of each command, as text."""

from __future__ import annotations

from collections.abc import Iterable

from moka.command.actions import TRAIN
from moka.command.commands import Command, load_function
from moka.command.flags import COMMON, TEAM, Flag
from moka.command.table import COMMANDS, flags_of


def program_usage() -> str:
    """What `caffe` alone prints: every command, and the flags of Caffe's actions."""
    listed = [(command.name, command.help) for command in COMMANDS.values()]
    listed.append(("help", "show this, or a command's help: caffe help train"))
    width = max(len(name) for name, _ in listed)
    lines = "\n".join(f"  {name:<{width}} {help}" for name, help in listed)
    return (
        f"caffe: command line brew\nusage: caffe <command> <args>\n\ncommands:\n{lines}\n"
        f"\n  Flags:\n{_described(flags_of(TRAIN).values())}"
    )


def command_usage(command: Command) -> str:
    """What `--help` prints for one command."""
    if command.is_action:
        head = f"caffe {command.name}: {command.help}\nusage: caffe {command.name} <flags>\n"
        if command.description:
            head += f"\n{command.description}\n"
    else:
        head = f"{command.title}: {command.description or command.help}\n{synopsis(command)}\n"
    if command.flags:
        head += f"\n  Flags:\n{_described(command.flags)}\n"
    if command.notes:
        head += f"\n{load_function(command.notes)()}\n"
    return f"{head}\n  Flags of every command:\n{_described(COMMON)}\n"


def synopsis(command: Command) -> str:
    """`Usage:` and how the command is called."""
    flags = "[FLAGS] " if set(command.flags).difference(TEAM) else ""  # else as in old programs
    return f"Usage:\n    {command.title} {flags}{command.arguments}"


def _described(flags: Iterable[Flag]) -> str:
    return "\n".join(flag.describe() for flag in sorted(flags, key=lambda flag: flag.name))
