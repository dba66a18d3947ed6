"""The table of all commands of `caffe`. Help, installed programs, shell completion and
docs/commands.md are made of it."""

from __future__ import annotations

from moka.command.actions import ACTIONS
from moka.command.commands import Command
from moka.command.flags import COMMON, Flag
from moka.command.pages import PAGES
from moka.command.tools import TOOLS

COMMANDS: dict[str, Command] = {command.name: command for command in (*ACTIONS, *TOOLS, *PAGES)}
PROGRAMS = {  # by name
    "caffe": "moka.cli.main:main",
    "moka": "moka.cli.main:main",
    "caffe_fp16": "moka.cli.main:half_precision",  # NVCaffe's
}


def flags_of(command: Command) -> dict[str, Flag]:
    """All flags that a command accepts, by name. An action accepts the flags of all actions, as
    Caffe's program does."""
    others = [f for action in ACTIONS for f in action.flags] if command.is_action else []
    return {flag.name: flag for flag in (*others, *command.flags, *COMMON)}


def scripts() -> dict[str, str]:
    """The programs to install: `module:function` by name ([project.scripts] in pyproject.toml)."""
    installed = dict(PROGRAMS)
    for command in COMMANDS.values():
        installed.update(command.programs)
    return installed
