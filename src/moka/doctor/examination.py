"""All that is looked at, in order."""

from __future__ import annotations

from collections.abc import Iterator

from moka.doctor.facts import Fact
from moka.doctor.machine import machine
from moka.doctor.names import names
from moka.doctor.packages import packages
from moka.doctor.settings import settings
from moka.doctor.trial import trial


def examine() -> Iterator[Fact]:
    """Yield all facts, topic by topic; the last ones train and run a small net."""
    for topic in (packages, names, machine, settings, trial):
        yield from topic()
