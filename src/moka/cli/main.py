"""The program `caffe` (and `moka`, the same): `caffe <command> <flags>`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from moka import __version__
from moka.command.actions import ACTIONS, TRAIN
from moka.command.commands import Command
from moka.command.flags import parse_flags, reading_texts
from moka.command.pages import PAGES
from moka.command.run import guard
from moka.command.table import COMMANDS, flags_of
from moka.command.tools import TOOLS
from moka.command.usage import command_usage, program_usage
from moka.errors import UsageError, did_you_mean
from moka.report.glog import log_to_file, obey_flags, set_stderr_level

log = logging.getLogger("moka")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit code: 0, 1 after a user's error, or the code that a tool
    returns."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(_underscored(words[0])) if words else None
    if command is not None and not command.is_action:
        code: int = command.load()(words[1:])
        return code
    return guard("caffe", lambda: _run(words))


def half_precision(argv: Sequence[str] | None = None) -> int:
    """The program `caffe_fp16`: `caffe`, whose actions run with `--half`."""
    words = list(sys.argv[1:] if argv is None else argv)
    command = COMMANDS.get(_underscored(words[0])) if words else None
    is_tool = command is not None and not command.is_action
    return main(words if is_tool or not words else ["--half", *words])


def _underscored(name: str) -> str:
    """A command's name; `parse-log` is `parse_log`."""
    return name.replace("-", "_")


def _run(argv: list[str]) -> None:
    if argv and argv[0] != "help" and not argv[0].startswith("-"):
        _check_name(argv[0])
    words, flags = parse_flags(argv, flags_of(TRAIN))
    obey_flags(flags)
    if flags["version"]:
        print(f"caffe version 1.0.0 (moka {__version__})")
        return
    asked = flags["help"] or flags["helpshort"] or words[:1] == ["help"]
    if asked or not words:
        named = [word for word in words if word != "help"] if asked else []
        print(command_usage(_check_name(named[0])) if len(named) == 1 else program_usage())
        return
    command = _check_name(words[0])
    if len(words) > 1:
        blanks = "Leave no blanks around =." if "=" in argv else ""
        raise UsageError(
            f'{command.title} takes flags only, found "{words[1]}".',
            advice=blanks or f"See `{command.title} --help`.",
        )
    if flags["quiet"]:
        set_stderr_level(1)
    with reading_texts(flags), _in_half(flags), log_to_file(flags["log_dir"]):
        command.load()(flags)


def _in_half(flags: Mapping[str, Any]) -> AbstractContextManager[None]:
    if not flags["half"]:
        return nullcontext()
    from moka.schema.upgrade.forms import nets_in_half  # help needs no schema

    return nets_in_half()


def _check_name(name: str) -> Command:
    """The command of this name. Raises UsageError, after a list of all, if there is none."""
    found = COMMANDS.get(_underscored(name))
    if found is None:
        log.error("Available caffe actions:")
        actions = sorted(action.name for action in ACTIONS)
        for each in (*actions, *(command.name for command in (*TOOLS, *PAGES))):
            log.error("\t%s", each)
        raise UsageError(f"Unknown action: {name}.", advice=did_you_mean(name, COMMANDS))
    return found


if __name__ == "__main__":
    sys.exit(main())
