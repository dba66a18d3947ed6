"""The blocks of code on a page, and running them as somebody would who pastes them."""

from __future__ import annotations

import contextlib
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from moka.command.table import scripts

DOCS = Path(__file__).parents[2] / "docs"


class Block(NamedTuple):
    """What stands between two fences; `title` is the file it is shown as."""

    language: str
    title: str
    text: str


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page or of a part of one."""
    found = re.findall(
        r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```", text, re.DOTALL | re.MULTILINE
    )
    return [Block(*match) for match in found]


def lines_of(text: str) -> list[str]:
    """The lines of a shell that do something, each whole."""
    return [
        line for line in text.replace("\\\n", "").splitlines() if shlex.split(line, comments=True)
    ]


@contextlib.contextmanager
def _errors_to(arguments: list[str]) -> Iterator[None]:
    """What `2> FILE` asks for, if these words end so; they lose it."""
    if "2>" not in arguments:
        yield
        return
    with open(arguments[-1], "w") as file, contextlib.redirect_stderr(file):
        del arguments[arguments.index("2>") :]
        yield


def run_shell(text: str) -> list[int]:
    """Run lines of a shell: Moka's programs in this process, `python` in another; exit codes."""
    codes = []
    for line in lines_of(text):
        program, *arguments = shlex.split(line, comments=True)
        if program in scripts():
            module, _, name = scripts()[program].partition(":")
            with _errors_to(arguments):
                codes.append(getattr(importlib.import_module(module), name)(arguments))
        else:
            assert program == "python", line
            codes.append(subprocess.run([sys.executable, *arguments], check=False).returncode)
    return codes


def run_page(text: str) -> dict[str, Any]:
    """Do what a page says: keep its files, run its lines. All succeed; returns Python's names."""
    names: dict[str, Any] = {}
    for block in blocks_of(text):
        if block.title and block.language == "prototxt":
            Path(block.title).write_text(block.text)
        elif block.language == "python":
            exec(compile(block.text, "page", "exec"), names)
        elif block.language == "sh":
            assert not any(run_shell(block.text)), block.text
    return names
