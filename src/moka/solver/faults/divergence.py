"""A step whose loss or gradients are not finite numbers: noticed, explained, kept for a replay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from moka.engine.pass_start import PassStart
from moka.engine.trace import ArraySummary, first_fault
from moka.errors import MokaError, SolverError
from moka.layers.source import Source
from moka.net import Net
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.faults.replay import replay_name, write_replay
from moka.types import PathLike

log = logging.getLogger("moka")


class Guard:
    """Keeps steps that are not finite from the parameters, and knows which snapshot is sound.

    Args:
        config: the solver's message.
        file: where it came from, for messages.
        net: the net that is trained.
        prefix: of the snapshots; files for a replay lie beside them.

    Attributes:
        last_snapshot: the model written last, None before the first.
        keeps_replay: write the iteration in which a run ends to a file.
    """

    def __init__(self, config: SolverParameter, file: PathLike, net: Net, prefix: str) -> None:
        self.config = config
        self.file = file
        self.net = net
        self.prefix = prefix
        self.last_snapshot: str | None = None
        self.keeps_replay = True
        self._good_snapshot: str | None = None  # one that a sound step has followed
        self._skipped = 0  # steps in a row

    def passed(self) -> None:
        """A step is sound, and so is the snapshot it began from."""
        self._skipped = 0
        self._good_snapshot = self.last_snapshot

    def resumed_from(self, model_file: str) -> None:
        """The run goes on from a snapshot."""
        self.last_snapshot = self._good_snapshot = model_file

    def refuse(self, fact: str, start: PassStart | None, iteration: int, rate: float) -> None:
        """Let a step be skipped, which would spoil the parameters.

        Raises:
            SolverError: more steps in a row than `skip_nonfinite` allows.
        """
        why = explain(self.net, start)
        self._skipped += 1
        if self._skipped <= self.config.skip_nonfinite:
            log.warning("%s at iteration %d: skipped. %s", fact, iteration, why)
            return
        kept = ""
        if self.keeps_replay:
            file = replay_name(self.prefix, iteration)
            kept = keep_for_replay(file, self.net, start, iteration=iteration, rate=rate)
        raise self.diverged(fact, iteration, rate, why, kept)

    def diverged(
        self, fact: str, iteration: int, rate: float, why: str = "", how: str = ""
    ) -> SolverError:
        """The error that ends the run: why, what to go on from, and how to look into it."""
        last, good = self.last_snapshot, self._good_snapshot
        kept = f"The last good snapshot is {good}." if good else "No snapshot has been made yet."
        if last != good:
            kept = f"The last snapshot, {last}, may be spoilt already. {kept if good else ''}"
        skipped = f", after {self._skipped - 1} skipped in a row" if self._skipped > 1 else ""
        advice = "Lower base_lr, warm up, clip gradients, or look for broken data."
        return SolverError(
            f"{fact} at iteration {iteration}{skipped}: training has diverged, at a learning"
            f" rate of {rate:g}.",
            file=self.file,
            advice=" ".join(part for part in (why, kept.strip(), advice, how) if part),
        )


def broken(loss: float, gradients: Sequence[Tensor]) -> str | None:
    """What is not finite after a pass, as the beginning of a sentence; None: all is well."""
    if not isfinite(loss):
        return f"the loss is {loss}"
    if not all_finite(gradients):
        return f"the loss is {loss:g}, but gradients are not finite"
    return None


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every number is finite; asked of all gradients after each pass.

    A sum costs a fraction of `isfinite` (on a CPU 0.3 % of LeNet's iteration). It may overflow
    by itself, so where it is not finite every number is looked at.
    """
    if not tensors:
        return True
    if tensors[0].device.type == "cuda":
        totals = torch._foreach_norm(list(tensors))  # a few kernels for all
    else:
        totals = tuple(tensor.sum() for tensor in tensors)
    return isfinite(float(torch.stack(totals).sum())) or all(
        bool(tensor.isfinite().all()) for tensor in tensors
    )


def explain(net: Net, start: PassStart | None) -> str:
    """Sentences that name the first array of a pass that is not finite, and the batch's records.

    The net stands at the start of that pass afterwards.
    """
    if start is None:
        return ""
    names = batch_names(net)
    fault = first_fault(net, start)
    if fault is None:
        said = ["Run again layer by layer, every value is finite."]
    else:
        said = [f"Not finite at first: {fault.place} ({fault.extent})."]
    for i, records in names.items():
        said.append(_batch_text(net.graph.nodes[i].name, records, fault))
    return " ".join(said)


def batch_names(net: Net) -> dict[int, list[str]]:
    """By layer, what the records of the last batch are called, where that is known."""
    found = {}
    for i, layer in enumerate(net.layers):
        if isinstance(layer, Source):
            try:
                names = layer.batch_names()
            except MokaError as error:  # what is being explained matters more
                log.warning("%s", error)
                continue
            if names:
                found[i] = names
    return found


def _batch_text(layer: str, records: list[str], fault: ArraySummary | None) -> str:
    span = dict.fromkeys((f'"{records[0]}"', f'"{records[-1]}"'))
    text = f'The batch of layer "{layer}" is {" to ".join(span)}'
    if fault and fault.first and fault.shape[0] == len(records) and not fault.is_of_parameter:
        text += f', that value of "{records[fault.first[0]]}"'
    return f"{text}."


def keep_for_replay(
    file: PathLike,
    net: Net,
    start: PassStart | None,
    *,
    iteration: int,
    rate: float,
) -> str:
    """Write the iteration's file; returns a sentence that says how to use it, or why not."""
    if start is None:
        return ""
    try:
        write_replay(file, net, start, iteration=iteration, rate=rate, records=batch_names(net))
    except OSError as error:
        return f"The iteration could not be kept in {file}: {error.strerror}."
    return f"See that iteration layer by layer with --replay={file}."
