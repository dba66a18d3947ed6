"""One thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass

FINE, WORTH_KNOWING, BROKEN = "fine", "worth knowing", "broken"


@dataclass(frozen=True)
class Fact:
    """What was found, and what to do about it.

    Attributes:
        topic: what facts are shown together under.
        name: what was looked at.
        found: in a few words.
        state: FINE; WORTH_KNOWING: works, but could be better; BROKEN: something fails.
        advice: what to do, as a sentence; empty if nothing is to be done.
    """

    topic: str
    name: str
    found: str
    state: str = FINE
    advice: str = ""
