"""A run's records in Caffe's own sentences; floats as C++ streams print them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from moka.report.records import (
    BestSnapshotWritten,
    ClassesTested,
    EarlyStop,
    FinalLoss,
    IterationCompleted,
    Output,
    Record,
    SnapshotWritten,
    SolvingCompleted,
    SolvingStarted,
    TestCompleted,
    TestStarted,
)

log = logging.getLogger("moka.records")


def log_record(record: Record) -> None:
    """A listener: write the record's lines to the logger "moka.records"."""
    for line in lines(record):
        log.info(line)


def lines(record: Record) -> Iterator[str]:
    """The sentences of one record."""
    match record:
        case SolvingStarted():
            yield f"Solving {record.net}"
            yield f"Learning Rate Policy: {record.lr_policy}"
        case IterationCompleted():
            yield from _iteration(record)
        case TestStarted():
            yield f"Iteration {record.iteration}, Testing net (#{record.net_index})"
        case ClassesTested():
            yield from (f"class{label}: {value:g}" for label, value in record.precisions)
        case TestCompleted():
            if record.loss is not None:
                yield f"Test loss: {record.loss:g}"
            yield from _outputs("Test", record.outputs)
        case SnapshotWritten():
            kind = "HDF5" if record.state_file.endswith(".h5") else "binary proto"
            yield f"Snapshotting to {kind} file {record.model_file}"
            yield f"Snapshotting solver state to {kind} file {record.state_file}"
            if record.averaged_file:
                yield f"Snapshotting averaged weights to {kind} file {record.averaged_file}"
        case BestSnapshotWritten():
            yield (
                f"Best {record.output} so far: {record.value:g} at iteration {record.iteration},"
                f" kept in {record.model_file}"
            )
        case EarlyStop():
            yield (
                f"Stopping at iteration {record.iteration}: {record.tests} tests without a better"
                f" {record.output} than {record.best:g} of iteration {record.best_iteration}"
            )
        case FinalLoss():
            yield f"Iteration {record.iteration}, loss = {record.loss:g}"
        case SolvingCompleted():
            yield from _end(record)


def _end(r: SolvingCompleted) -> Iterator[str]:
    yield "Optimization stopped early." if r.stopped_early else "Optimization Done."
    if r.elapsed_s:
        yield f"Waited for data {r.waited_s / r.elapsed_s:.1%} of {r.elapsed_s:.3g} s."


def _iteration(r: IterationCompleted) -> Iterator[str]:
    if r.displayed:
        speed = r.lapse_iterations / r.lapse_s if r.lapse_s else 0.0
        yield (
            f"Iteration {r.iteration} ({speed:g} iter/s, {r.lapse_s:g}s/{r.display_every} iters),"
            f" loss = {r.loss:g}"
        )
        yield from _outputs("Train", r.outputs)
    if r.stage is not None:
        yield f"MultiStep Status: Iteration {r.iteration}, step = {r.stage}"
    if r.plateau is not None:
        yield f"Plateau Status: Iteration {r.iteration}, step = {r.plateau}"
    if r.displayed:
        yield f"Iteration {r.iteration}, lr = {r.rate:g}"
    if r.clipped is not None:
        norm, limit = r.clipped
        yield (
            f"Gradient clipping: scaling down gradients (L2 norm {norm:g} > {limit:g})"
            f" by scale factor {limit / norm:g}"
        )


def _outputs(phase: str, outputs: tuple[Output, ...]) -> Iterator[str]:
    for i, output in enumerate(outputs):
        yield f"    {phase} net output #{i}: {output_text(output)}"


def output_text(output: Output) -> str:
    """`loss = 0.12 (* 1 = 0.12 loss)`, the bracket only for a loss."""
    text = f"{output.name} = {output.value:g}"
    if output.loss_weight:
        part = output.loss_weight * output.value
        text += f" (* {output.loss_weight:g} = {part:g} loss)"
    return text
