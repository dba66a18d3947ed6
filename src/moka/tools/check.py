"""Old models: whether they load, and what they are made of: `caffe check PATH...`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rich.console import Console

from moka.checks.finding import Finding
from moka.checks.shelf import findings
from moka.checks.table import finding_line, findings_table, total
from moka.command.run import run


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe check PATH... [--json] [--export]`; the exit code is 1 if anything fails."""
    return run("check", _check, argv)


def _check(words: list[str], flags: dict[str, Any]) -> None:
    show = _as_json if flags["json"] else _as_table if sys.stdout.isatty() else _as_lines
    if not all(finding.loads for finding in show(findings(words, export=flags["export"]))):
        raise SystemExit(1)


def _as_json(found: Iterable[Finding]) -> list[Finding]:
    kept = list(found)
    print(json.dumps([finding.as_json() for finding in kept], indent=2))
    return kept


def _as_table(found: Iterable[Finding]) -> list[Finding]:
    console = Console()
    kept: list[Finding] = []
    with console.status("") as status:
        for finding in found:
            kept.append(finding)
            status.update(f"{len(kept)} files")
    console.print(findings_table(kept, console.width))
    print(total(kept))
    return kept


def _as_lines(found: Iterator[Finding]) -> list[Finding]:
    """Each as soon as it is found, for long lists."""
    kept: list[Finding] = []
    for finding in found:
        kept.append(finding)
        print(finding_line(finding), flush=True)
    print(total(kept))
    return kept
