"""The processes and GPUs that a form gives to a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moka.command.actions import TRAIN
from moka.command.flags import Flag
from moka.command.processes import process_count
from moka.errors import UsageError

_FLAGS: dict[str, Flag] = {
    flag.name: flag for flag in TRAIN.flags if flag.name in ("workers", "gpu", "strong")
}
_DEFAULTS = {flag.name: flag.default for flag in TRAIN.flags}
MOST_WORKERS = 64


@dataclass(frozen=True)
class Devices:
    """What a job runs on.

    Attributes:
        flags: of `caffe train`; none: one process, where the solver says.
        batches: how many of the net's batches a pass of all processes takes.
    """

    flags: list[str]
    batches: int


def described() -> list[dict[str, Any]]:
    """The fields of a form that choose devices, each with what it does."""
    return [{"name": flag.name, "help": flag.help} for flag in _FLAGS.values()]


def devices_of(values: Mapping[str, Any]) -> Devices:
    """The devices that a form's fields `workers`, `gpu` and `strong` name.

    Raises:
        UsageError: one that cannot be, as `caffe train` says it.
    """
    given = {
        name: flag.parse(text)
        for name, flag in _FLAGS.items()
        if (text := str(values.get(name) or "").strip())
    }
    count = process_count(_DEFAULTS | given)
    if count > MOST_WORKERS:
        raise UsageError(f"workers has to be at most {MOST_WORKERS}, got {count}.")
    flags = [f"--{name}={_text(value)}" for name, value in given.items() if value]
    return Devices(flags, 1 if given.get("strong") else count)


def fields_of(flags: list[str]) -> dict[str, str]:
    """The fields of a form that make these flags."""
    pairs = (flag.removeprefix("--").partition("=") for flag in flags)
    return {name: value for name, _, value in pairs}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
