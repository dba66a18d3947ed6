"""Files in older forms to files in today's form: nets and models, as text and binary, and solvers.

The programs are called as ever: `upgrade_net_proto_text IN OUT`, `upgrade_net_proto_binary IN OUT`
and `upgrade_solver_proto_text IN OUT`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from moka.errors import SchemaError
from moka.report.glog import log_to_stderr
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
class Kind:
    """A kind of file: what it holds, and how that is read, upgraded and written."""

    form: str  # "text" or "binary"
    message: type[Message]
    read: Callable[[PathLike, Any], Any]
    write: Callable[[PathLike, Any], None]
    needs_upgrade: Callable[[Any], bool]
    upgrade: Callable[[Any, PathLike], Any]
    problems: Callable[[Any], Sequence[str]]


_NET = (net_needs_upgrade, upgrade_net, net_problems)
NET_TEXT = Kind("text", caffe_pb2.NetParameter, read_text, write_text, *_NET)
NET_BINARY = Kind("binary", caffe_pb2.NetParameter, read_binary, write_binary, *_NET)
SOLVER_TEXT = Kind(
    "text",
    caffe_pb2.SolverParameter,
    read_text,
    write_text,
    solver_needs_upgrade,
    upgrade_solver,
    lambda solver: (),
)


def upgrade_file(kind: Kind, source: PathLike, target: PathLike) -> bool:
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


def run(program: str, kind: Kind, files: str, argv: Sequence[str] | None) -> int:
    """One of the programs; returns its exit code: 0, 1 (something was dropped, wrong arguments, the
    target cannot be written) or 2 (the source cannot be read).

    Args:
        program, files: its name and its arguments, for the usage.
        argv: None takes the command line's.
    """
    argv = sys.argv[1:] if argv is None else argv
    with log_to_stderr(plain=sys.stderr.isatty()):
        if len(argv) != 2:
            log.error("Usage: %s %s", program, files)
            return 1
        try:
            return 0 if upgrade_file(kind, *argv) else 1
        except SchemaError as error:
            log.critical("%s", error)
            return 2
        except OSError as error:
            log.critical("%s cannot be written: %s.", argv[1], error.strerror)
            return 1


_NET_FILES = "v0_net_proto_file_in net_proto_file_out"
_SOLVER_FILES = "old_solver_proto_file_in solver_proto_file_out"


def net_text(argv: Sequence[str] | None = None) -> int:
    """`upgrade_net_proto_text IN OUT`."""
    return run("upgrade_net_proto_text", NET_TEXT, _NET_FILES, argv)


def net_binary(argv: Sequence[str] | None = None) -> int:
    """`upgrade_net_proto_binary IN OUT`."""
    return run("upgrade_net_proto_binary", NET_BINARY, _NET_FILES, argv)


def solver_text(argv: Sequence[str] | None = None) -> int:
    """`upgrade_solver_proto_text IN OUT`."""
    return run("upgrade_solver_proto_text", SOLVER_TEXT, _SOLVER_FILES, argv)
