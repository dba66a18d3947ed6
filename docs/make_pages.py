"""Writes layers.md and solver.md, the references of layer types and of a solver's fields, from the
classes' docstrings and the comments in caffe.proto: `make docs`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import moka.schema
from moka.command.commands import Command
from moka.command.flags import COMMON, Flag
from moka.command.table import COMMANDS
from moka.fillers import FORKS_FILLER_OPTIONS
from moka.layers import Entry, all_entries
from moka.layers.options import LAYER, Option
from moka.schema import caffe_pb2
from moka.schema import comments as proto_comments
from moka.schema.fields import is_repeated
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.solver.config import FORKS_OPTIONS

HERE = Path(__file__).parent
PROTO = Path(moka.schema.__file__).with_name("caffe.proto")
LAYERS = f"""\
# Layers

All {len(all_entries())} layer types, by family. A default of "unset" means that the layer decides,
"none" that the option may be given several times and is not. Made by `make docs` from the
docstrings in `src/moka/layers` and the comments in `caffe.proto`; a test keeps it up to date.
"""
FORKS = """\
BVLC Caffe does not have these types. "Gradient": whether the gradient reaches the bottoms, so that
a net can be trained through the layer. Options that forks added to BVLC Caffe's own types stand
with these types. py-faster-rcnn's `rpn.proposal_layer`, `rpn.anchor_target_layer` and
`rpn.proposal_target_layer` (type Python, no gradient) are built in; a module of your own with such
a name wins.
"""
SOLVER = """\
# The solver

All fields of a solver's prototxt that Moka reads. BVLC Caffe does not know those marked "own",
which are Moka's or other branches' of Caffe, and those marked "fork". Made by `make docs` from the
comments in `caffe.proto`.
"""
SHARED = {  # what any layer, or several types, may hold
    "Transformation: `transform_param`": "TransformationParameter",
    "Losses: `loss_param`": "LossParameter",
    "Parameters: `param`": "ParamSpec",
    "Fillers: `weight_filler`, `bias_filler` and others": "FillerParameter",
}
FIRST_OWN_NUMBER = 20000
OF_FORKS: Mapping[str, Collection[str]] = {  # fields of forks that Moka reads, by message
    "SolverParameter": FORKS_OPTIONS,
    "FillerParameter": frozenset(chain.from_iterable(FORKS_FILLER_OPTIONS.values())),
}
FIELD = re.compile(r"\s*(?:optional|repeated|required) \S+ (\w+) = [^;]*;\s*(?://\s*(.*))?$")


def field_comments() -> dict[str, dict[str, str]]:
    """The comment of each field of caffe.proto in Markdown, by message and field."""
    return {
        message: {name: markdown(comment) for name, comment in fields.items()}
        for message, fields in proto_comments.field_comments().items()
    }


def markdown(comment: proto_comments.Comment) -> str:
    parts = [joined(comment.above), comment.beside]
    return " ".join(part[:1].upper() + part[1:] for part in parts if part)


def joined(lines: Iterable[str]) -> str:
    """A comment as one line of Markdown: lines that are set in, such as formulas, one by one."""
    text = ""
    for line in lines:
        if line.startswith("       "):  # goes on with the formula before it
            text = f"{text.removesuffix('`')} {line.strip()}`"
        elif line.startswith("  "):
            text += f"<br>`{re.sub(' +', ' ', line.strip())}`"
        else:
            text += f"<br>{line}" if text.endswith("`") and "<br>" in text else f" {line}"
    return text.strip()


def families() -> dict[str, list[Entry]]:
    """The entries by the first sentence of the file or folder that their class is in."""
    found: dict[str, list[Entry]] = {}
    for entry in all_entries():
        module = sys.modules[".".join(entry.make.__module__.split(".")[:3])]  # moka.layers.family
        heading = re.split(r"[.:]\s", (module.__doc__ or "").replace("\n", " "))[0].strip(". ")
        found.setdefault(heading, []).append(entry)
    return dict(sorted(found.items()))


def escaped(text: str) -> str:
    """Text with the signs of Markdown and HTML escaped, except inside backticks."""
    parts = text.split("`")
    parts[::2] = [
        re.sub(r"<(?!br>)", "&lt;", re.sub(r"([*_|])", r"\\\1", part)) for part in parts[::2]
    ]
    return "`".join(parts)


def default_of(option: Option, descriptor: Any) -> str:
    return "has to be given" if option.required else default_text(descriptor)


def default_text(descriptor: Any) -> str:
    """A field's default in the schema."""
    if is_repeated(descriptor):
        return "none"
    if not descriptor.has_default_value:
        return "unset"
    value = descriptor.default_value
    if descriptor.enum_type is not None:
        return f"`{descriptor.enum_type.values_by_number[value].name}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{str(value).lower() if isinstance(value, bool) else format(value, 'g')}`"


def table(entry: Entry, comments: dict[str, dict[str, str]]) -> Iterator[str]:
    yield "| field | default | |"
    yield "|---|---|---|"
    for option in entry.make.options:
        home, descriptor = home_of(option, entry)
        said = comments.get(descriptor.containing_type.name, {}).get(option.name, "")
        allowed = f" ({option.check.text})" if option.check else ""
        where = "" if home in (entry.message, LAYER) else f" of {home}"
        yield (
            f"| `{option.name}`{where} | {default_of(option, descriptor)}{escaped(allowed)} |"
            f" {escaped(said)} |"
        )


def home_of(option: Option, entry: Entry) -> tuple[str, Any]:
    """The field of LayerParameter whose message an option lies in, and the option's descriptor."""
    for home in (entry.messages or (LAYER,)) if option.of is None else (option.of,):
        parent: Any = caffe_pb2.LayerParameter.DESCRIPTOR
        if home:
            parent = parent.fields_by_name[home].message_type
        if option.name in parent.fields_by_name:
            return home, parent.fields_by_name[option.name]
    raise ValueError(f"{entry.type} has no field {option.name}")


def other_names(entry: Entry) -> Iterator[str]:
    """The fork that a type comes from, if not BVLC Caffe, and its other names."""
    said = [f"From {entry.fork}."] if entry.fork else []
    if entry.aliases:
        said.append(f"Also called {', '.join(f'`{name}`' for name in entry.aliases)}.")
    if said:
        yield from (" ".join(said), "")


def fork_table() -> Iterator[str]:
    """All types that BVLC Caffe does not have, by fork, and whether a gradient passes through."""
    yield FORKS
    yield "| fork | type | other names | gradient |"
    yield "|---|---|---|---|"
    of_forks = [entry for entry in all_entries() if entry.fork]
    for entry in sorted(of_forks, key=lambda e: ((e.fork or "").lower(), e.type)):
        anchor = entry.type.lower().replace("_", "")
        others = ", ".join(f"`{name}`" for name in entry.aliases)
        yield (f"| {entry.fork} | [{entry.type}](#{anchor}) | {others} | {gradient_of(entry)} |")


def gradient_of(entry: Entry) -> str:
    """Whether a gradient reaches a type's bottoms, and which ones it does not reach."""
    if entry.source is not None:
        return "no: it has no bottoms"
    if not entry.differentiable:
        return "no"
    if not entry.fixed_bottoms:
        return "yes"
    numbers = ", ".join(str(index + 1) for index in entry.fixed_bottoms)
    return f"yes, except for bottom {numbers}"


def layers_page() -> str:
    """The page of layer types."""
    comments = field_comments()
    lines = [LAYERS, "## The types of the forks", "", *fork_table(), ""]
    for heading, entries in families().items():
        lines += [f"## {heading}", ""]
        for entry in sorted(entries, key=lambda e: e.type):
            lines += [f"### {entry.type}", "", *other_names(entry)]
            lines += [escaped(inspect.getdoc(entry.make) or ""), ""]
            if entry.make.options:
                lines += [
                    f"Fields of `{entry.message}`:" if entry.message else "Fields:",
                    "",
                    *table(entry, comments),
                    "",
                ]
    for heading, message in SHARED.items():
        names = caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name
        lines += [f"## {heading}", "", *message_table(message, list(names)), ""]
    return "\n".join(lines).rstrip() + "\n"


def message_table(message: str, names: list[str]) -> Iterator[str]:
    """A table of some fields of a message."""
    comments = field_comments()[message]
    fields = caffe_pb2.DESCRIPTOR.message_types_by_name[message].fields_by_name
    yield "| field | default | |"
    yield "|---|---|---|"
    for name in names:
        number = fields[name].number
        if number >= FIRST_FORK_NUMBER and name not in OF_FORKS.get(message, ()):
            continue  # of one layer type, which has a table of its own, or read by nobody
        is_own, is_forks = number >= FIRST_OWN_NUMBER, number >= FIRST_FORK_NUMBER
        mark = " (fork)" if is_forks else " (own)" if is_own else ""
        said = escaped(comments.get(name, ""))
        yield f"| `{name}`{mark} | {default_text(fields[name])} | {said} |"


def solver_sections() -> Iterator[tuple[str, list[str]]]:
    """(heading, lines of comments and fields) per section of SolverParameter in caffe.proto."""
    text = PROTO.read_text()
    body = text[text.index("message SolverParameter {") :]
    body = body[: body.index("\n}\n")]
    for section in re.split(r"  // --- ", body)[1:]:
        heading, *lines = section.splitlines()
        yield heading, lines


def solver_page() -> str:
    """The page of a solver's fields: a table for each section."""
    lines = [SOLVER]
    for heading, section in solver_sections():
        names = [m[1] for line in section if (m := FIELD.match(line))]
        lines += [f"## {heading[0].upper()}{heading[1:]}", ""]
        lines += [*message_table("SolverParameter", names), ""]
    return "\n".join(lines).rstrip() + "\n"


COMMANDS_PAGE = """\
# Commands

Every command of `caffe`; `moka` is the same program. Flags take one dash or two, a blank or `=`:
`-solver x`, `--solver=x`. They may also stand in a file, one a line: `--flagfile=FILE`. A command
that was a program of its own in Caffe still is one, with the same arguments. `caffe help` lists
them, `caffe train --help` prints the help of one, `caffe completion bash` a script with which bash
completes them (zsh and fish likewise). Exit codes: 0; 1 after an error, told in one sentence; 130
after ^C; 75 after a SIGTERM that stopped `caffe train`, which asks for another run. The first ^C
lets `caffe train` end its iteration and stop with 0, a second one ends it at once. Made by `make
docs` from the table in `src/moka/command`.
"""


def commands_page() -> str:
    """The page of commands and their flags."""
    lines = [COMMANDS_PAGE]
    for command in COMMANDS.values():
        lines += [f"## {command.name}", "", *command_section(command), ""]
    lines += ["## Flags of every command", "", *flag_table(COMMON)]
    return "\n".join(lines).rstrip() + "\n"


def command_section(command: Command) -> Iterator[str]:
    call = f"caffe {command.name}{' [FLAGS]' if command.flags else ''} {command.arguments}".rstrip()
    text = command.description or f"{command.help[0].upper()}{command.help[1:]}."
    yield re.sub(r"^((?: {4}.*\n?)+)", r"\n\1\n", text, flags=re.MULTILINE).rstrip()  # as code
    yield ""
    yield f"    {call}"
    programs = [name for name, _ in command.programs]
    if programs:
        yield ""
        yield f"Also as a program: `{'`, `'.join(programs)}`."
    if command.flags:
        yield ""
        yield from flag_table(command.flags)


def flag_table(flags: Iterable[Flag]) -> Iterator[str]:
    yield "| flag | default | |"
    yield "|---|---|---|"
    for flag in flags:
        names = f"`--{flag.name}`" + (f", `-{flag.short}`" if flag.short else "")
        default = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default)
        if isinstance(flag.default, bool):
            default = default.lower()
        yield f"| {names} | `{default}` | {escaped(flag.help)} |"


PAGES = {"layers.md": layers_page, "solver.md": solver_page, "commands.md": commands_page}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make())
