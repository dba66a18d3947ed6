"""Tables of a training log: `parse_log LOGFILE OUTDIR` writes `<log>.train` and `<log>.test`."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable, Sequence
from math import nan
from pathlib import Path
from typing import Any

from moka.command.run import run
from moka.errors import UsageError
from moka.files import write_atomically
from moka.report.log_file import read_log
from moka.report.readings import Reading, TrainingLog
from moka.types import PathLike

CsvRow = dict[str, float]

log = logging.getLogger("moka")


def parse_log(path: PathLike) -> tuple[list[CsvRow], list[CsvRow]]:
    """A log's rows of training and of tests, one for each display and each test.

    Returns:
        (train, test); a row holds `NumIters`, `Seconds` since the start, `LearningRate` and the
        outputs by name. The rate is the last one that the log names before the row, which is the
        rate of the previous display; the first row gets the rate of the second. An incomplete last
        row is left out.

    Raises:
        DataError: the file cannot be read, or no iteration is in it.
    """
    log = read_log(path)
    train, test = _rows(log.displays), _rows(log.tests)
    fix_initial_nan_learning_rate(train)
    fix_initial_nan_learning_rate(test)
    return train, test


def _rows(readings: Iterable[Reading]) -> list[CsvRow]:
    rows = [
        {"NumIters": float(r.iteration), "Seconds": r.seconds, "LearningRate": r.rate_before}
        | r.outputs
        for r in readings
        if r.outputs
    ]
    if len(rows) > 1 and rows[0].keys() - rows[-1].keys():
        del rows[-1]
    return rows


def fix_initial_nan_learning_rate(rows: Sequence[CsvRow]) -> None:
    """Give the first row the rate of the second, if there is one: the log names no rate before the
    first row. This replaces any rate it had, as Caffe's own reader does."""
    if len(rows) > 1:
        rows[0]["LearningRate"] = rows[1]["LearningRate"]


def save_csv_files(
    logfile: PathLike,
    folder: PathLike,
    train: Sequence[CsvRow],
    test: Sequence[CsvRow],
    delimiter: str = ",",
    verbose: bool = False,
) -> None:
    """Write both tables into a folder, which is made if need be; none for no rows.

    Raises:
        UsageError: they cannot be written.
    """
    for kind, rows in (("train", train), ("test", test)):
        write_csv(_target(logfile, folder, kind), rows, delimiter, verbose)


def write_csv(
    file: PathLike, rows: Sequence[CsvRow], delimiter: str = ",", verbose: bool = False
) -> None:
    """Write rows under a header of all their columns; nothing for no rows.

    Args:
        delimiter: one character.
        verbose: say on standard output what was written.

    Raises:
        UsageError: it cannot be written, or the delimiter is no single character.
    """
    if not rows:
        if verbose:
            print(f"Not writing {file}; no lines to write")
        return
    header = list(dict.fromkeys(column for row in rows for column in row))
    try:
        text = io.StringIO()
        writer = csv.DictWriter(text, header, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        _write_text(Path(file), text.getvalue())
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
    except (TypeError, ValueError):
        raise UsageError(f"--delimiter takes one character, found '{delimiter}'.") from None
    if verbose:
        print(f"Wrote {file}")


def save_tables(
    logfile: PathLike, folder: PathLike, log: TrainingLog, verbose: bool = False
) -> None:
    """Write the two tables of parse_log.sh into a folder: columns divided by blanks, as gnuplot and
    `numpy.loadtxt` read them.

    `<log>.train`: iteration, seconds, the loss averaged over `average_loss` iterations and the
    iteration's own rate. `<log>.test`: iteration, seconds, the first output that is no loss, and
    the first loss. `nan` stands for what the log does not say.

    Raises:
        UsageError: they cannot be written.
    """
    train = [(r, r.loss, r.rate) for r in log.displays]
    test = [(r, first_loss(r, losses=False), first_loss(r, losses=True)) for r in log.tests]
    for kind, header, rows in (
        ("train", "#Iters Seconds TrainingLoss LearningRate", train),
        ("test", "#Iters Seconds TestAccuracy TestLoss", test),
    ):
        cells = [header.split()]
        cells += [[f"{r.iteration}", f"{r.seconds:.6f}", f"{a:g}", f"{b:g}"] for r, a, b in rows]
        file = _target(logfile, folder, kind)
        try:
            _write_text(file, "\n".join(map(_aligned, cells)) + "\n")
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}.") from None
        if verbose:
            print(f"Wrote {file}")


def first_loss(reading: Reading, *, losses: bool) -> float:
    """The first output that is a loss, or that is none; nan: there is no such."""
    found = (value for name, value in reading.outputs.items() if (name in reading.losses) is losses)
    return next(found, nan)


def _aligned(cells: Iterable[str]) -> str:
    return " ".join(f"{cell:<14}" for cell in cells).rstrip()


def _target(logfile: PathLike, folder: PathLike, kind: str) -> Path:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}.") from None
    return Path(folder) / f"{Path(logfile).name}.{kind}"


def main(argv: Sequence[str] | None = None) -> int:
    """`parse_log LOGFILE [OUTDIR] [--verbose] [--delimiter ,] [--tables]`."""
    return run("parse_log", _parse_log, argv)


def _parse_log(words: list[str], flags: dict[str, Any]) -> None:
    logfile, *given = words
    folder = given[0] if given else Path(logfile).parent
    if flags["tables"] or not given:
        save_tables(logfile, folder, read_log(logfile), flags["verbose"])
    else:
        tables = parse_log(logfile)
        if not any(tables):
            log.warning(
                "%s: its lines name no outputs of the nets, so there are no tables to write."
                " Without OUTDIR parse_log makes tables of the losses alone.",
                logfile,
            )
        save_csv_files(logfile, folder, *tables, flags["delimiter"], flags["verbose"])


def _write_text(file: Path, text: str) -> None:
    write_atomically(file, lambda out: out.write(text.encode()))
