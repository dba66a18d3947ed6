"""Charts of a run: time and memory against batch size, and against the depth of a residual net."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from subjects import DEPTHS

from moka.draw.figures import COLORS, drawing, save
from report import INFERENCE, TRAINING, Results, Row

MARKERS = "osD^vP*Xh<"
COLUMNS = 4
WIDTH, HEIGHT = 2.7, 2.3  # inches, of one net
Value = Callable[[Row], float]


def draw(results: Results, folder: Path) -> list[str]:
    """Write the charts that the results have figures for; returns their names."""
    made: list[str] = []
    names = list(dict.fromkeys(row.contender for row in results.rows))  # each has a color
    for mode in (INFERENCE, TRAINING):
        by_net = _by_net(results, mode)
        if any(len(found) > 1 for lines in by_net.values() for found in lines.values()):
            made.append(f"{mode}_time.svg")
            _by_batch(by_net, names, lambda r: r.ms / r.batch, "ms an image", folder / made[-1])
            made.append(f"{mode}_memory.svg")
            _by_batch(by_net, names, lambda r: r.peak_mb, "peak MB", folder / made[-1])
    deep = _by_depth(results)
    if any(len(found) > 1 for found in deep.values()):
        made.append("depth.svg")
        _against_depth(deep, names, folder / made[-1])
    return made


def _by_net(results: Results, mode: str) -> dict[str, dict[str, list[Row]]]:
    """Rows by net and contender, the smallest batch first; nets of several batches only."""
    found: dict[str, dict[str, list[Row]]] = {}
    for row in sorted(results.rows, key=lambda r: r.batch):
        if row.mode == mode:
            found.setdefault(row.net, {}).setdefault(row.contender, []).append(row)
    order = dict.fromkeys(row.net for row in results.rows)
    return {
        net: found[net]
        for net in order
        if net in found and any(len(rows) > 1 for rows in found[net].values())
    }


def _by_depth(results: Results) -> dict[str, list[tuple[int, Row]]]:
    found: dict[str, list[tuple[int, Row]]] = {}
    for depth, net in DEPTHS.items():
        for row in results.rows:
            if (row.mode, row.net, row.batch) == (INFERENCE, net, 1):
                found.setdefault(row.contender, []).append((depth, row))
    return found


def _by_batch(
    by_net: Mapping[str, Mapping[str, list[Row]]],
    names: list[str],
    value: Value,
    unit: str,
    file: Path,
) -> None:
    across = min(COLUMNS, len(by_net))
    down = -(-len(by_net) // across)
    with drawing(WIDTH * across, HEIGHT * down + 0.6) as figure:
        grid: Any = figure.subplots(down, across, squeeze=False)
        for axes in grid.flat[len(by_net) :]:
            axes.axis("off")
        for axes, (net, lines) in zip(grid.flat, by_net.items(), strict=False):
            for name, rows in lines.items():
                batches, values = [r.batch for r in rows], [value(r) for r in rows]
                _line(axes, names, name, batches, values)
            axes.set_title(net)
            _logarithmic(axes, sorted({r.batch for rows in lines.values() for r in rows}))
        for axes in grid[:, 0]:
            axes.set_ylabel(unit)
        for axes in grid[-1]:
            axes.set_xlabel("batch")
        _legend(figure, grid.flat[: len(by_net)])
        save(figure, file)


def _against_depth(deep: Mapping[str, list[tuple[int, Row]]], names: list[str], file: Path) -> None:
    units: tuple[tuple[str, Value], ...] = (
        ("ms a pass, one image", lambda r: r.ms),
        ("peak MB", lambda r: r.peak_mb),
    )
    with drawing(8.0, 3.8) as figure:
        both: Any = figure.subplots(1, 2)
        for axes, (unit, value) in zip(both, units, strict=True):
            for name, found in deep.items():
                _line(axes, names, name, [d for d, _ in found], [value(r) for _, r in found])
            axes.set_ylabel(unit)
            axes.set_xlabel("layers of the residual net")
            axes.set_xticks(list(DEPTHS))
            axes.set_ylim(bottom=0)
        _legend(figure, both)
        save(figure, file)


def _line(axes: Any, names: list[str], name: str, x: list[int], y: list[float]) -> None:
    k = names.index(name)
    style = dict(color=COLORS[k % len(COLORS)], marker=MARKERS[k % len(MARKERS)], markersize=4)
    axes.plot(x, y, label=name, linewidth=1.3, linestyle="-" if k < len(COLORS) else "--", **style)


def _logarithmic(axes: Any, batches: list[int]) -> None:
    """Batches are far apart, and so are contenders."""
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator, ScalarFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    plain = ScalarFormatter()
    plain.set_scientific(False)
    axes.yaxis.set_major_formatter(plain)
    axes.yaxis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, all_axes: Any) -> None:
    """One for all, below."""
    found: dict[str, Any] = {}
    for axes in all_axes:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=5)
