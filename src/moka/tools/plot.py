"""Charts of training logs: `caffe plot LOG [LOG ...]`, and `plot_training_log` with the arguments
of Caffe's program."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moka.command.run import run
from moka.draw import charts
from moka.draw.figures import save
from moka.report.log_file import read_log
from moka.types import PathLike


def plot(logs: Sequence[PathLike], picture: PathLike, kind: int | None = None) -> None:
    """Draw logs into one picture.

    Args:
        picture: a file whose suffix says in what form: .png, .svg, .pdf.
        kind: one of the eight classic charts (`moka.draw.charts.TITLES`), or None: loss,
            accuracy and learning rate above each other.

    Raises:
        MokaError: a log that cannot be read, nothing to draw, no matplotlib.
    """
    read = {name: read_log(path) for name, path in zip(_names(logs), logs, strict=True)}
    save(charts.draw(read, kind), picture)


def _names(logs: Sequence[PathLike]) -> list[str]:
    """The files' names without `.log`; their paths where two have the same name."""
    short = [Path(log).name.removesuffix(".log") for log in logs]
    return short if len(set(short)) == len(short) else [str(log) for log in logs]


def main(argv: Sequence[str] | None = None) -> int:
    """`caffe plot LOG [LOG ...] [-o PICTURE] [--type TYPE]`."""
    return run("plot", _plot, argv)


def _plot(logs: list[str], flags: dict[str, Any]) -> None:
    picture = flags["output"] or f"{logs[0].removesuffix('.log')}.png"
    _draw(logs, picture, charts.chart_type(flags["type"]) if flags["type"] else None)


def plot_training_log(argv: Sequence[str] | None = None) -> int:
    """`plot_training_log TYPE PICTURE LOG [LOG ...]`."""
    return run("plot_training_log", _classic, argv)


def _classic(words: list[str], flags: dict[str, Any]) -> None:
    kind, picture, *logs = words
    _draw(logs, picture, charts.chart_type(kind))


def _draw(logs: Sequence[str], picture: str, kind: int | None) -> None:
    plot(logs, picture, kind)
    print(f"Wrote {picture}")


def chart_types() -> str:
    """The classic charts, for the help."""
    return "  Types:\n" + "\n".join(f"  {i}  {title}" for i, title in enumerate(charts.TITLES))
