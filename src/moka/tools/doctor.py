"""What is installed and what the machine offers, with advice: `caffe doctor`."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from moka.command.run import run
from moka.doctor.examination import examine
from moka.doctor.facts import BROKEN, FINE, WORTH_KNOWING, Fact

MARKS = {FINE: ("ok", "green"), WORTH_KNOWING: ("note", "yellow"), BROKEN: ("FAIL", "bold red")}


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe doctor [--json]`; the exit code is 1 if anything fails."""
    return run("doctor", _doctor, argv)


def _doctor(words: list[str], flags: dict[str, Any]) -> None:
    logging.getLogger("moka").setLevel(logging.ERROR)  # the trial's nets need no log
    facts = examine()
    kept = list(facts) if flags["json"] else list(_shown(facts))
    if flags["json"]:
        print(json.dumps([asdict(fact) for fact in kept], indent=2))
    else:
        print(_total(kept))
    if any(fact.state == BROKEN for fact in kept):
        raise SystemExit(1)


def _shown(facts: Iterator[Fact]) -> Iterator[Fact]:
    """Print each fact as soon as it is known."""
    console = Console(soft_wrap=True, highlight=False)
    topic = None
    for fact in facts:
        if fact.topic != topic:
            console.print(Text(fact.topic.capitalize(), style="bold"))
            topic = fact.topic
        mark, color = MARKS[fact.state]
        console.print(Text.assemble("  ", (f"{mark:<5}", color), f"{fact.name:<24} {fact.found}"))
        if fact.advice:
            console.print(Text(f"       {'':<24} -> {fact.advice}"))
        yield fact


def _total(facts: Sequence[Fact]) -> str:
    broken = sum(fact.state == BROKEN for fact in facts)
    notes = sum(fact.state not in (BROKEN, FINE) for fact in facts)
    if not broken and not notes:
        return "Nothing is wrong."
    said = [f"{broken} {'thing fails' if broken == 1 else 'things fail'}"] if broken else []
    if notes:
        said.append(f"{notes} {'thing' if notes == 1 else 'things'} could be better")
    return f"{' and '.join(said)}: see the arrows."
