"""All that is looked at, in order."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from moka.doctor.facts import BROKEN, Fact

TOPICS = ("packages", "names", "machine", "settings", "trial")


def examine() -> Iterator[Fact]:
    """Yield all facts, topic by topic; the last ones train and run a small net.

    A topic whose module needs a package that cannot be imported is one fact that says so.
    """
    for topic in TOPICS:
        try:
            look = getattr(importlib.import_module(f"moka.doctor.{topic}"), topic)
        except Exception as error:  # noqa: BLE001 - a broken package may raise anything
            said = (str(error).splitlines() or [type(error).__name__])[0]
            found = f"not looked at: {said}"
            yield Fact(topic, "all of it", found, BROKEN, "First mend the packages above.")
        else:
            yield from look()
