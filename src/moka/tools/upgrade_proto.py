"""Files in older forms to files in today's form: nets and models, as text and binary, and solvers.

The programs are called as ever: `upgrade_net_proto_text IN OUT`, `upgrade_net_proto_binary IN OUT`
and `upgrade_solver_proto_text IN OUT`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from moka.command.run import run
from moka.errors import SchemaError
from moka.schema import caffe_pb2, read_binary, read_text, write_binary, write_text
from moka.schema.upgrade import (
    net_needs_upgrade,
    net_problems,
    solver_needs_upgrade,
    upgrade_net,
    upgrade_solver,
)
from moka.types import PathLike

log = logging.getLogger("moka")


@dataclass(frozen=True)
class ProtoFile:
    """A kind of file: what it holds, and how that is read, upgraded and written."""

    form: str  # "text" or "binary"
    message: type[Message]
    read: Callable[[PathLike, Any], Any]
    write: Callable[[PathLike, Any], None]
    needs_upgrade: Callable[[Any], bool]
    upgrade: Callable[[Any, PathLike], Any]
    problems: Callable[[Any], Sequence[str]]


_NET = (net_needs_upgrade, upgrade_net, net_problems)
NET_TEXT = ProtoFile("text", caffe_pb2.NetParameter, read_text, write_text, *_NET)
NET_BINARY = ProtoFile("binary", caffe_pb2.NetParameter, read_binary, write_binary, *_NET)
SOLVER_TEXT = ProtoFile(
    "text",
    caffe_pb2.SolverParameter,
    read_text,
    write_text,
    solver_needs_upgrade,
    upgrade_solver,
    lambda solver: (),
)


def upgrade_file(kind: ProtoFile, source: PathLike, target: PathLike) -> bool:
    """Write what a file holds in today's form; one that has it already is written as it is.

    Args:
        kind: NET_TEXT, NET_BINARY or SOLVER_TEXT.
        source, target: may be the same file.

    Returns:
        Whether everything found its place; what did not is named in the log and left out.

    Raises:
        SchemaError: the source cannot be read, or is inconsistent. The target is untouched.
        OSError: the target cannot be written.
    """
    name = kind.message.DESCRIPTOR.name
    try:
        message = kind.read(source, kind.message)
    except SchemaError:
        log.error("Failed to parse input %s file as %s: %s", kind.form, name, source)
        raise
    complete = True
    if kind.needs_upgrade(message):
        upgraded = kind.upgrade(message, source)
        complete = not kind.problems(message)
        message = upgraded
        if not complete:
            log.error("Encountered error(s) while upgrading prototxt; see details above.")
    else:
        log.error("File already in latest proto format: %s", source)
    kind.write(target, message)
    log.info("Wrote upgraded %s %s proto to %s", name, kind.form, target)
    return complete


def _program(name: str, kind: ProtoFile, argv: Sequence[str] | None) -> int:
    """Run one of the programs; returns its exit code: 0, 1 (something was left out, wrong
    arguments, the target cannot be written) or 2 (the source cannot be read)."""

    def upgrade(words: list[str], flags: dict[str, Any]) -> None:
        try:
            complete = upgrade_file(kind, *words)
        except SchemaError as error:
            error.exit_code = 2
            raise
        if not complete:
            raise SystemExit(1)

    return run(name, upgrade, argv)


def net_text(argv: Sequence[str] | None = None) -> int:
    """`upgrade_net_proto_text IN OUT`."""
    return _program("upgrade_net_proto_text", NET_TEXT, argv)


def net_binary(argv: Sequence[str] | None = None) -> int:
    """`upgrade_net_proto_binary IN OUT`."""
    return _program("upgrade_net_proto_binary", NET_BINARY, argv)


def solver_text(argv: Sequence[str] | None = None) -> int:
    """`upgrade_solver_proto_text IN OUT`."""
    return _program("upgrade_solver_proto_text", SOLVER_TEXT, argv)
