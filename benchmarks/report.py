"""Figures of a run as JSON and as Markdown tables, and what falls short in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log
from pathlib import Path
from typing import Any

BEST = ("ONNX Runtime", "OpenVINO")
OURS = ("caffe.Net", "caffe.Net with OpenVINO", "moka.load")
INFERENCE, TRAINING = "inference", "training"


@dataclass(frozen=True)
class Row:
    """What was measured of one contender: one net at one batch.

    Attributes:
        mode: "inference" or "training".
        ms: the median of its turns, a batch.
        first_s: from the start of its process to the end of its first iteration.
        peak_mb: its process's.
        least_ms: of its fastest turn; None: an earlier run, which does not tell. What else the host
            does makes turns longer, never shorter.
    """

    mode: str
    net: str
    batch: int
    contender: str
    ms: float
    first_s: float
    peak_mb: float
    least_ms: float | None = None


@dataclass
class Results:
    """A run.

    Attributes:
        machine: one line.
        load: programs that wanted to run, for each processor, before it began; None: unknown.
        left_out: what there was no time for.
        failed: contenders that failed, with the reason, by cell.
    """

    machine: str
    command: str
    rounds: int
    load: float | None = None
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)

    def save(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load_from(cls, file: Path) -> Results:
        found: dict[str, Any] = json.loads(file.read_text())
        rows = [Row(**row) for row in found.pop("rows")]
        return cls(rows=rows, **found)

    def cells(self, mode: str) -> dict[tuple[str, int], dict[str, Row]]:
        """Rows by net and batch, and in these by contender."""
        found: dict[tuple[str, int], dict[str, Row]] = {}
        for row in self.rows:
            if row.mode == mode:
                found.setdefault((row.net, row.batch), {})[row.contender] = row
        return found


def markdown(results: Results, charts: Sequence[str] = ()) -> str:
    """The whole run as a page.

    Args:
        charts: names of pictures beside the page.
    """
    parts = [f"# Side by side\n\n{_head(results)}"]
    for mode, title, unit in (
        (INFERENCE, "Inference", "a pass"),
        (TRAINING, "Training", "an iteration"),
    ):
        cells = results.cells(mode)
        if not cells:
            continue
        base = "the better of ONNX Runtime and OpenVINO" if mode == INFERENCE else "`caffe train`"
        parts.append(f"## {title}: milliseconds {unit}\n\nIn brackets the ratio to {base}.")
        parts.append(table(cells, lambda row, cell: _with_ratio(row.ms, base_ms(cell))))
        parts += _short(results, mode)
        parts.append(f"## {title}: seconds to the first result, MB at the peak")
        parts.append(table(cells, lambda row, _: f"{row.first_s:.1f}, {row.peak_mb:.0f}"))
    parts += [f"![{name}]({name})" for name in charts]
    if results.failed:
        lines = [f"- {cell}: {name}: {why}" for cell, found in results.failed.items()
                 for name, why in found.items()]  # fmt: skip
        parts.append("## Contenders that failed\n\n" + "\n".join(lines))
    if results.left_out:
        parts.append("## Left out for want of time\n\n" + "; ".join(results.left_out) + ".")
    return "\n\n".join(parts) + "\n"


def _head(results: Results) -> str:
    load = "" if results.load is None else f" Load before the run: {results.load:.1f} a processor."
    return (
        f"{results.machine}. Medians of {results.rounds} turns; each contender is a process of its"
        f" own, they take turns. Weights are random.{load} `{results.command}`"
    )


def table(
    cells: Mapping[tuple[str, int], Mapping[str, Row]],
    text: Callable[[Row, Mapping[str, Row]], str],
) -> str:
    """A row for each net and batch, a column for each contender."""
    columns = list(dict.fromkeys(name for cell in cells.values() for name in cell))
    lines = [f"| net, batch | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for (net, batch), cell in cells.items():
        found = [text(cell[name], cell) if name in cell else "" for name in columns]
        lines.append(f"| {net}, {batch} | {' | '.join(found)} |")
    return "\n".join(lines)


def base_ms(cell: Mapping[str, Row]) -> float | None:
    """What others are compared with: in training `caffe train`, else the better of ONNX Runtime and
    OpenVINO."""
    if "caffe train" in cell:
        return cell["caffe train"].ms
    return min((cell[name].ms for name in BEST if name in cell), default=None)


def _with_ratio(ms: float, base: float | None) -> str:
    digits = 3 if ms < 1 else 2 if ms < 100 else 0
    return f"{ms:.{digits}f}" + (f" ({ms / base:.2f})" if base else "")


def geometric_mean(numbers: Iterable[float]) -> float | None:
    found = [log(number) for number in numbers]
    return exp(sum(found) / len(found)) if found else None


def _short(results: Results, mode: str) -> list[str]:
    """Sentences about the targets: what meets them and what does not."""
    cells = results.cells(mode)
    if mode == INFERENCE:
        return [
            *(_against(cells, name, BEST, 1.05) for name in OURS if _has(cells, name)),
            *_mean(cells, "OpenCV 4", "caffe.Net"),
            *_mean(cells, "PyTorch", "moka.load"),
        ]
    return [
        _against(cells, "caffe train", ("channels-last", "torch.compile", "PyTorch"), 1.0),
        *_mean(cells, "PyTorch", "caffe train"),
    ]


def _has(cells: Mapping[tuple[str, int], Mapping[str, Row]], name: str) -> bool:
    return any(name in cell for cell in cells.values())


def _against(
    cells: Mapping[tuple[str, int], Mapping[str, Row]],
    ours: str,
    others: Sequence[str],
    most: float,
) -> str:
    """Where `ours` takes more than `most` times the best of the others."""
    medians = _behind(cells, ours, others, most, lambda row: row.ms)
    told = f"{ours}: more than {most:g} times the best of {', '.join(others)} in {medians}."
    if all(row.least_ms is not None for cell in cells.values() for row in cell.values()):
        least = _behind(cells, ours, others, most, lambda row: row.least_ms or row.ms)
        told += f" By the fastest turn of each, in {least}."
    return told


def _behind(
    cells: Mapping[tuple[str, int], Mapping[str, Row]],
    ours: str,
    others: Sequence[str],
    most: float,
    ms: Callable[[Row], float],
) -> str:
    behind, count = [], 0
    for (net, batch), cell in cells.items():
        best = min((ms(cell[name]) for name in others if name in cell), default=None)
        if ours not in cell or best is None:
            continue
        count += 1
        ratio = ms(cell[ours]) / best
        if ratio > most:
            behind.append(f"{net}, {batch} ({ratio:.2f})")
    return f"{len(behind)} of {count} cells{': ' if behind else ''}{'; '.join(behind)}"


def _mean(
    cells: Mapping[tuple[str, int], Mapping[str, Row]], other: str, ours: str
) -> Iterable[str]:
    mean = geometric_mean(
        cell[other].ms / cell[ours].ms for cell in cells.values() if {other, ours} <= cell.keys()
    )
    if mean is not None:
        yield f"{other} takes {mean:.2f} times as long as {ours} (geometric mean)."
