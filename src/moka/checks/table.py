"""Findings as people read them: a table on a terminal, a line for each in a pipe."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from rich.table import Table
from rich.text import Text

from moka.checks.finding import Finding
from moka.net.summary import size_text

WIDE = 150  # columns of a terminal that hold a column for each fact


def finding_line(finding: Finding) -> str:
    """`deploy.prototxt: loads; 24 layers, ...`: all that is known, on one line."""
    *parts, last = verdict(finding), *facts(finding), *finding.notes
    return f"{finding.file}: {'; '.join([*(part.rstrip('.') for part in parts), last])}"


def verdict(finding: Finding) -> str:
    """`loads`, `fails: layer "x" ...`; of a file of another kind what it is."""
    if finding.obstacle is not None:
        return f"fails: {_without_file(finding.obstacle, finding.file)}"
    return "loads" if finding.kind == "net" else _KINDS[finding.kind]


_KINDS = {"solver": "a solver", "weights": "weights without a net", "other": "no net"}


def facts(finding: Finding) -> Iterator[str]:
    """Yield short facts about a net: layers, parameters, inputs, forks, weights, engine,
    export."""
    if finding.layers is not None:
        yield f"{finding.layers} layers"
    if finding.parameters is not None:
        yield f"{finding.parameters:,} parameters"
    if finding.multiply_adds is not None:
        yield f"{millions(finding.multiply_adds)} multiply-adds"
    if finding.inputs:
        yield f"from {inputs(finding)}"
    if finding.forks:
        yield forks(finding)
    if finding.weights:
        yield f"weights {os.path.basename(finding.weights)}{weights(finding, ': ')}"
    if finding.engine:
        yield f"engine {engine(finding)}"
    if finding.export:
        yield export(finding, "exports to ONNX", "does not export: ")


def millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M"


def inputs(finding: Finding) -> str:
    """`data 1x3x300x300`."""
    return ", ".join(f"{name} {size_text(shape)}" for name, shape in finding.inputs.items())


def forks(finding: Finding) -> str:
    """`SSD: Permute, PriorBox`."""
    return "; ".join(f"{fork}: {', '.join(types)}" for fork, types in finding.forks.items())


def weights(finding: Finding, before: str = "") -> str:
    """`53 layers match, 1 is missing, 2 are left over`."""
    if finding.fit is None:
        return ""
    matching, missing, left_over = map(len, finding.fit)
    parts = [f"{matching} match"]
    parts += [f"{missing} missing"] if missing else []
    parts += [f"{left_over} left over"] if left_over else []
    return before + ", ".join(parts)


def engine(finding: Finding) -> str:
    """`onnxruntime`; with the types of layers that it runs by themselves, and of those that compute
    on the CPU in any case."""
    parts = [
        f"{', '.join(types)} {how}"
        for types, how in [(finding.by_themselves, "apart"), (finding.on_host, "on the CPU")]
        if types
    ]
    return f"{finding.engine or ''} ({'; '.join(parts)})" if parts else finding.engine or ""


def export(finding: Finding, yes: str = "yes", no: str = "no: ") -> str:
    """`yes`, with the largest difference if it is known; `no: layer "x" ...`."""
    found = finding.export
    if found is None:
        return ""
    if found.obstacle is not None:
        return f"{no}{_without_file(found.obstacle, finding.file)}"
    return f"{yes}, differs by {found.difference}" if found.difference else yes


def _without_file(sentence: str, file: str) -> str:
    return sentence.removeprefix(f"{file}: ")


def findings_table(findings: Sequence[Finding], width: int) -> Table:
    """A row for each finding. Narrow terminals get one column for all facts."""
    return _wide(findings) if width >= WIDE else _narrow(findings)


def _wide(findings: Sequence[Finding]) -> Table:
    table = Table()
    table.add_column("file", overflow="fold", ratio=3)
    for heading in ("parameters", "multiply-adds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("input", "layers of forks", "weights", "exports to ONNX"):
        table.add_column(heading, overflow="fold", ratio=2)
    table.add_column("result", overflow="fold", ratio=4)
    for each in findings:
        table.add_row(
            _file(each),
            "" if each.parameters is None else f"{each.parameters:,}",
            "" if each.multiply_adds is None else millions(each.multiply_adds),
            Text(inputs(each)),
            Text(forks(each)),
            Text(weights(each)),
            Text(export(each)),
            _result(each, [f"engine {engine(each)}"] if each.engine else []),
        )
    return table


def _narrow(findings: Sequence[Finding]) -> Table:
    table = Table(show_lines=True)
    table.add_column("file", overflow="fold", ratio=1)
    table.add_column("result", overflow="fold", ratio=2)
    for each in findings:
        told = [fact for fact in facts(each) if not fact.startswith("weights ")]
        told += [f"weights: {found}"] if (found := weights(each)) else []
        table.add_row(_file(each), _result(each, told))
    return table


def _file(finding: Finding) -> Text:
    text = Text(finding.file)
    if finding.weights:
        text.append(f"\n{os.path.basename(finding.weights)}", "dim")
    return text


def _result(finding: Finding, told: Iterable[str]) -> Text:
    good = "green" if finding.kind == "net" else "dim"
    text = Text()
    text.append(verdict(finding), good if finding.loads else "red")
    for fact in told:
        text.append(f"; {fact}")
    for note in finding.notes:
        text.append(f"\n{_without_file(note, finding.file)}", "dim")
    return text


def total(findings: Sequence[Finding]) -> str:
    """`3 nets load. 1 net and 2 other files fail.`"""
    nets = [each for each in findings if each.kind == "net"]
    good = sum(each.loads for each in nets)
    bad = len(nets) - good
    others = sum(not each.loads for each in findings) - bad
    parts = [f"{_counted(good, 'net')} load{'s' * (good == 1)}."]
    failing = [_counted(n, what) for n, what in ((bad, "net"), (others, "other file")) if n]
    if failing:
        parts.append(f"{' and '.join(failing)} fail{'s' * (bad + others == 1)}.")
    return " ".join(parts)


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"
