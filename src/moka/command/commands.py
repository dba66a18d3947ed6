"""What a command is, as data: its name, its function, its arguments and flags, its help."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from moka.command.flags import Flag


@dataclass(frozen=True)
class Command:
    """One command of `caffe`.

    Attributes:
        name: the word after `caffe`.
        function: `module:function`. Most functions take the command line's words and return an exit
            code, as an installed program's do; those of Caffe's own actions (`is_action`) take the
            values of the flags.
        help: what it does, in one line.
        arguments: names of its arguments, with a blank between them. `[NAME]` may be left out,
            `NAME...` may come several times; both stand at the end.
        flags: besides those that every command has.
        description: for its own help; empty: `help`.
        notes: what its help says after the flags.
        programs: installed programs, (name, function), by which old scripts call it.
        is_action: one of the four actions of Caffe's program, which accept each other's flags.
        usage_exit: the exit code after a wrong number of arguments.
        takes_more: further arguments do not count, as in Caffe's program; a warning names them.
    """

    name: str
    function: str
    help: str
    arguments: str = ""
    flags: tuple[Flag, ...] = ()
    description: str = ""
    notes: str = ""
    programs: tuple[tuple[str, str], ...] = ()
    is_action: bool = False
    usage_exit: int = 1
    takes_more: bool = False

    @property
    def title(self) -> str:
        """Its name in messages: its own if a program has that name, else `caffe <name>`."""
        return self.name if self.name in dict(self.programs) else f"caffe {self.name}"

    def load(self) -> Callable[..., Any]:
        """Import its function. Only a command that runs is imported, so `caffe help` is fast."""
        return load_function(self.function)

    def accepts(self, count: int) -> bool:
        """Whether it takes this many arguments."""
        least, most = self.argument_counts()
        return least <= count and (most is None or count <= most or self.takes_more)

    def argument_counts(self) -> tuple[int, int | None]:
        """The least and the greatest number of arguments; None: no limit."""
        names = self.arguments.split()
        least = sum(not name.startswith("[") for name in names)
        repeats = any(re.fullmatch(r"\[?\w+\.\.\.\]?", name) for name in names)
        return least, None if repeats else len(names)


def load_function(function: str) -> Callable[..., Any]:
    """The function that `module:function` names."""
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def tool(
    name: str,
    module: str,
    help: str,
    arguments: str,
    flags: Iterable[Flag] = (),
    *,
    function: str = "main",
    programs: dict[str, str] | None = None,
    **more: Any,
) -> Command:
    """A command whose function is in a module of `moka.tools`.

    Args:
        programs: functions of that module by the program that calls them; None: one program with
            the command's name and function.
    """
    home = f"moka.tools.{module}"
    known = {name: function} if programs is None else programs
    return Command(
        name,
        f"{home}:{function}",
        help,
        arguments,
        tuple(flags),
        programs=tuple((program, f"{home}:{target}") for program, target in known.items()),
        **more,
    )
