"""Charts of training logs: `caffe plot LOG [LOG ...]`, and `plot_training_log` with the arguments
that it always had."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from moka.draw import charts
from moka.draw.figures import save
from moka.errors import MokaError
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
    parser = argparse.ArgumentParser(
        prog="caffe plot",
        description="Draw training logs: loss, accuracy and learning rate, or one classic chart.",
        epilog=_types(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("log", nargs="+", help="what `caffe train` wrote to standard error")
    parser.add_argument(
        "-o",
        "--output",
        metavar="PICTURE",
        help="the file, .png, .svg or .pdf (default: the first log's name with .png)",
    )
    parser.add_argument("--type", help="a classic chart, by number or title")
    flags = parser.parse_args(argv)
    picture = flags.output or f"{flags.log[0].removesuffix('.log')}.png"
    return _run("caffe plot", flags.log, picture, flags.type)


def classic(argv: Sequence[str] | None = None) -> int:
    """`plot_training_log TYPE PICTURE LOG [LOG ...]`."""
    parser = argparse.ArgumentParser(
        prog="plot_training_log",
        description="Draw a chart of training logs.",
        epilog=_types(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("type", help="of the chart, 0 to 7")
    parser.add_argument("picture", help="the file, .png, .svg or .pdf")
    parser.add_argument("log", nargs="+", help="what `caffe train` wrote to standard error")
    flags = parser.parse_args(argv)
    return _run("plot_training_log", flags.log, flags.picture, flags.type)


def _run(program: str, logs: Sequence[str], picture: str, kind: str | None) -> int:
    try:
        plot(logs, picture, None if kind is None else charts.chart_type(kind))
    except MokaError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    print(f"Wrote {picture}")
    return 0


def _types() -> str:
    return "types:\n" + "\n".join(f"  {i}  {title}" for i, title in enumerate(charts.TITLES))
