"""Which engine a command runs nets with: `--engine`."""

from __future__ import annotations

from moka.inference.engines import set_engine


def use(name: str) -> None:
    """Run nets for testing with this engine; "" leaves the choice to MOKA_ENGINE.

    Raises:
        UsageError: an unknown engine, or one that is not installed.
    """
    if name:
        set_engine(name)
