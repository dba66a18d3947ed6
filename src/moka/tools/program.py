"""What all programs beside `caffe` share: flags, usage, a log, and one sentence for an error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from moka import __version__
from moka.cli.flags import COMMON, Flag, parse
from moka.errors import MokaError, UsageError
from moka.report.glog import log_to_file, log_to_stderr, set_level

log = logging.getLogger("moka")

Function = Callable[[list[str], dict[str, Any]], object]


@dataclass(frozen=True)
class Program:
    """A program, as its users see it.

    Attributes:
        name: what it is called.
        purpose: what it does, for the usage.
        arguments: the names of its arguments, a blank between them; those it can do without in
            square brackets, at the end.
        flags: besides those that every program has.
    """

    name: str
    purpose: str
    arguments: str
    flags: Sequence[Flag] = ()

    def usage(self) -> str:
        flags = "\n".join(flag.describe() for flag in self.flags)
        return (
            f"{self.name}: {self.purpose}\nUsage:\n"
            f"    {self.name} {'[FLAGS] ' if flags else ''}{self.arguments}\n"
            + (f"\n  Flags:\n{flags}\n" if flags else "")
        )

    def run(self, function: Function, argv: Sequence[str] | None) -> int:
        """Call the function with the arguments and the values of the flags.

        Args:
            argv: None takes the command line's.

        Returns:
            The exit code: 0; 1 after an error of the user's, told in one sentence; 130 if
            interrupted.
        """
        on_terminal = sys.stderr.isatty()
        with log_to_stderr(plain=on_terminal):
            try:
                self._run(function, list(sys.argv[1:] if argv is None else argv))
            except (MokaError, OSError) as error:
                if on_terminal:
                    print(f"{self.name}: {_sentence(error)}", file=sys.stderr)
                else:
                    log.critical("%s", _sentence(error))
                return 1
            except KeyboardInterrupt:
                log.error("Interrupted.")
                return 130
        return 0

    def _run(self, function: Function, argv: list[str]) -> None:
        flags = {flag.name: flag for flag in (*self.flags, *COMMON)}
        words, values = parse(argv, flags)
        if values["help"] or values["helpshort"]:
            print(self.usage())
            return
        if values["version"]:
            print(f"{self.name} of moka {__version__}")
            return
        if values["minloglevel"]:
            set_level(values["minloglevel"])
        wanted = self.arguments.split()
        needed = sum(not name.startswith("[") for name in wanted)
        if not needed <= len(words) <= len(wanted):
            print(self.usage(), file=sys.stderr)
            number = f"{needed} to {len(wanted)}" if needed < len(wanted) else f"{needed}"
            are = "argument is" if number == "1" else "arguments are"
            were = "was" if len(words) == 1 else "were"
            raise UsageError(f"{number} {are} needed, {len(words)} {were} given.")
        with log_to_file(values["log_dir"], self.name.replace(" ", "_")):
            function(words, values)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)
