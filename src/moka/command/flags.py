"""Command line flags in gflags' manner: one or two dashes, `-flag value` or `-flag=value`, before
or after the arguments; booleans as `-flag`, `-noflag`, `-flag=true|false`."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moka.errors import UsageError, did_you_mean

# What web pages and word processors make of hyphens.
_DASHES = tuple("\u2010\u2011\u2012\u2013\u2014\u2015\u2212")


@dataclass(frozen=True)
class Flag:
    """A flag of a command.

    Attributes:
        name: without dashes; on a command line `-` and `_` in it are the same.
        default: its type is the flag's type.
        help: what it does.
        short: another name.
        choices: the values that completion offers; empty: files.
    """

    name: str
    default: str | int | float | bool
    help: str
    short: str = ""
    choices: tuple[str, ...] = ()

    def parse(self, text: str) -> str | int | float | bool:
        """Read a value. Raises UsageError for a text of another type."""
        if isinstance(self.default, bool):
            if text.lower() in ("true", "t", "yes", "y", "1"):
                return True
            if text.lower() in ("false", "f", "no", "n", "0"):
                return False
        elif isinstance(self.default, str):
            return text
        else:
            try:
                return type(self.default)(text)
            except ValueError:
                pass
        raise UsageError(f"illegal value '{text}' specified for {self.kind} flag '{self.name}'.")

    @property
    def kind(self) -> str:
        return {bool: "bool", int: "int32", float: "double", str: "string"}[type(self.default)]

    def describe(self) -> str:
        """The help as gflags prints it."""
        default = f'"{self.default}"' if isinstance(self.default, str) else str(self.default)
        names = f"-{self.short}, -{self.name}" if self.short else f"-{self.name}"
        text = f"{names} ({self.help}) type: {self.kind} default: {default}"
        return "\n".join(textwrap.wrap(text, 80, initial_indent="    ", subsequent_indent="      "))


ENGINES = ("auto", "layerwise", "onnxruntime", "openvino", "torch")
ENGINE = Flag(
    "engine",
    "",
    "Optional; what runs nets for testing on the CPU: auto (the fastest that is installed),"
    " layerwise, onnxruntime, openvino or torch. By default what the variable MOKA_ENGINE says, or"
    " auto. With layerwise, training does not record its steps either.",
    choices=ENGINES,
)

# What every command understands; most of it is glog's, for old scripts.
COMMON = (
    Flag("alsologtostderr", True, "Accepted for old scripts: the log goes to stderr."),
    Flag("logtostderr", True, "Accepted for old scripts: the log goes to stderr."),
    Flag("log_dir", "", "If specified, logfiles are written into this directory too."),
    Flag("minloglevel", 0, "Messages logged at a lower level than this don't appear: 0 to 3."),
    Flag("stderrthreshold", 2, "Accepted for old scripts: the log goes to stderr."),
    Flag("v", 0, "From 1 on also log what engines choose, and why (as GLOG_v)."),
    Flag("vmodule", "", "Accepted for old scripts: see --v."),
    Flag(
        "unknown_fields",
        "error",
        "What fields of a net or solver are that no known fork of Caffe has: 'error', or 'warn' to"
        " go on without them.",
    ),
    Flag("flagfile", "", "Load flags from file, one a line."),
    Flag("help", False, "Print this and exit."),
    Flag("helpshort", False, "Print this and exit."),
    Flag("version", False, "Print the version and exit."),
)


# Of commands that can work in several processes.
TEAM = (
    Flag(
        "workers",
        0,
        "Optional; work in this many processes on the CPU. In training each takes a batch of its"
        " own, as with several GPUs.",
    ),
    Flag(
        "max_restarts",
        3,
        "How often all processes are started again, from the last snapshot, when one is lost.",
    ),
    Flag(
        "patience",
        300.0,
        "Seconds to wait for other processes to come, and for a sign of life of one.",
    ),
)


def reading_texts(values: Mapping[str, Any]) -> AbstractContextManager[None]:
    """Inside this context prototxts are read as the flag unknown_fields says.

    Raises:
        UsageError: its value is neither error nor warn.
    """
    treatment = values["unknown_fields"]
    if treatment not in ("error", "warn"):
        raise UsageError(f"--unknown_fields is error or warn, not '{treatment}'.")
    from moka.schema import unknown_fields_are  # help needs no schema

    return unknown_fields_are(treatment)


def parse_flags(argv: Sequence[str], flags: dict[str, Flag]) -> tuple[list[str], dict[str, Any]]:
    """Split a command line into arguments and the values of all flags.

    Flags in a `flagfile` count too; where both give a value the command line's wins.

    Raises:
        UsageError: an unknown flag (the nearest is named), a missing or illegal value, a flagfile
            that cannot be read.
    """
    words, values = _split(argv, flags)
    if file := values.get("flagfile"):
        return _split([*read_flag_file(file), *argv], flags)
    return words, values


def _split(argv: Sequence[str], flags: dict[str, Flag]) -> tuple[list[str], dict[str, Any]]:
    words: list[str] = []
    values: dict[str, Any] = {name: flag.default for name, flag in flags.items()}
    by_name = flags | {flag.short: flag for flag in flags.values() if flag.short}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if word[:1] in _DASHES:
            raise UsageError(
                f"{word} begins with a dash; flags begin with a hyphen.",
                advice=f"Write --{word.lstrip(''.join(_DASHES))}.",
            )
        if not word.startswith("-") or word == "-":
            words.append(word)
            continue
        name, equals, text = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        flag = by_name.get(name)
        if flag is None:
            negated = by_name.get(name.removeprefix("no"))
            if negated is None or not isinstance(negated.default, bool) or equals:
                raise UsageError(
                    f"unknown command line flag '{name}'.", advice=did_you_mean(name, flags)
                )
            values[negated.name] = False
        elif equals:
            values[flag.name] = flag.parse(text)
        elif isinstance(flag.default, bool):
            values[flag.name] = True
        elif rest:
            if rest[0].startswith("="):
                raise UsageError(
                    f"flag '{name}' is followed by a blank and {rest[0]}.",
                    advice="Leave no blanks around =.",
                )
            values[flag.name] = flag.parse(rest.pop(0))
        else:
            raise UsageError(f"flag '{name}' is missing its argument.")
    return words, values


def read_flag_file(file: str) -> list[str]:
    """Read a file of flags, one a line; empty lines and lines that begin with # are skipped.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        lines = Path(file).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageError(f"flagfile {file} cannot be read: {reason}.") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
