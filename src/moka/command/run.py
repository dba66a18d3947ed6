"""What all commands share when they run: flags, help, the log, and one sentence for an error."""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from moka import __version__
from moka.command.commands import Command
from moka.command.flags import parse_flags, reading_texts
from moka.command.table import COMMANDS, flags_of
from moka.command.usage import command_usage, synopsis
from moka.errors import INTERRUPTED, MokaError, UsageError
from moka.free_memory import out_of_memory
from moka.heap import keep_freed_memory
from moka.own_caffe import prefer_own_caffe
from moka.report.glog import log_to_file, log_to_stderr, obey_flags
from moka.threads import choose_threads
from moka.waiting import sleep_soon

log = logging.getLogger("moka")

FLAGS_OF_FILES = {".prototxt": "model", ".caffemodel": "weights"}
CommandFunction = Callable[[list[str], dict[str, Any]], object]


def run(name: str, function: CommandFunction, argv: Sequence[str] | None) -> int:
    """Run a tool as a program.

    Args:
        name: its name in the table of commands.
        function: called with the arguments and the values of the flags.
        argv: None takes the command line's.

    Returns:
        The exit code: 0; 1 (or the error's own) after an error of the user's, told in one sentence;
        130 if interrupted.
    """
    command = COMMANDS[name]
    words = list(sys.argv[1:] if argv is None else argv)
    return guard(command.title, lambda: _call(command, function, words))


def guard(title: str, work: Callable[[], object]) -> int:
    """Do a program's work with its log on standard error; returns the exit code.

    Args:
        title: what the program is called before an error on a terminal.
    """
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # for its errors there is a sentence
    prefer_own_caffe()
    sleep_soon()
    _hush_sockets()
    _print_any_name()
    choose_threads()
    keep_freed_memory()
    on_terminal = sys.stderr.isatty()
    with log_to_stderr(plain=on_terminal):
        try:
            work()
        except (MokaError, OSError) as error:
            if isinstance(error, BrokenPipeError):  # `caffe help | head`
                with suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return 1
            speaker = f"{title}: " if on_terminal else ""
            log.critical("%s%s", speaker, sentence(error))
            return error.exit_code if isinstance(error, MokaError) else 1
        except KeyboardInterrupt:
            log.error("Interrupted.")
            return INTERRUPTED
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except Exception as error:
            if fact := out_of_memory(error):
                log.critical("%s", fact)
                return 1
            notes = getattr(error, "__notes__", None)
            if not notes:
                raise
            traceback.print_exception(error)  # raised by a layer of the user's own
            log.critical("%s: %s (%s)", type(error).__name__, error, notes[0])
            return 1
    return 0


def _print_any_name() -> None:
    """Let names leave as escapes that the encoding of standard output does not have, as on
    Windows."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        sys.stdout.reconfigure(errors="backslashreplace")


def _hush_sockets() -> None:
    """In one process of several: what PyTorch's sockets print about others that cannot be reached,
    Moka says in a sentence. PyTorch reads the setting when it is imported."""
    if "RANK" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")


def _call(command: Command, function: CommandFunction, argv: list[str]) -> None:
    words, values = parse_flags(argv, flags_of(command))
    if values["help"] or values["helpshort"]:
        print(command_usage(command))
    elif values["version"]:
        print(f"{command.title} of moka {__version__}")
    else:
        obey_flags(values)
        check_arguments(command, words)
        most = command.argument_counts()[1]
        if words[most:] and most is not None:
            log.warning("Left out, for it takes %d arguments: %s", most, " ".join(words[most:]))
        words = words[:most]
        with reading_texts(values), log_to_file(values["log_dir"], command.title.replace(" ", "_")):
            function(words, values)


def check_arguments(command: Command, words: Sequence[str]) -> None:
    """Raise UsageError, after the usage, for a wrong number of arguments.

    A command without flags and description ends with its usage, as Caffe's upgrade tools do.
    """
    if command.accepts(len(words)):
        return
    if not command.flags and not command.description:
        log.error("Usage: %s %s", command.title, command.arguments)
        raise SystemExit(command.usage_exit)
    if not command.arguments:
        raise UsageError(
            f'{command.title} takes flags only, found "{words[0]}".',
            advice=_advice_on_flags(command, words),
        )
    least, most = command.argument_counts()
    number = f"{least}" if least == most else f"{least} or more"
    if most is not None and most > least:
        number = f"{least} to {most}"
    are = "argument is" if number == "1" else "arguments are"
    were = "was" if len(words) == 1 else "were"
    print(
        f"{command.title}: {command.description or command.help}\n{synopsis(command)}\n"
        f"`{command.title} --help` lists its flags.",
        file=sys.stderr,
    )
    error = UsageError(f"{number} {are} needed, {len(words)} {were} given.")
    error.exit_code = command.usage_exit
    raise error


def _advice_on_flags(command: Command, words: Sequence[str]) -> str:
    """The flags that take files which were given without one."""
    known = {flag.name for flag in command.flags}
    named = [
        f"--{flag}={word}"
        for word in words
        for ending, flag in FLAGS_OF_FILES.items()
        if word.endswith(ending) and flag in known
    ]
    return f"Write {' '.join(named)}." if named else f"See `{command.title} --help`."


def sentence(error: Exception) -> str:
    """An error as one sentence; an OSError names its file first."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}." if error.filename else f"{error.strerror}."
    return str(error)
