"""A step whose loss or gradients are not finite numbers: noticed, explained, kept for a replay."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from moka.engine.pass_start import PassStart, go_back
from moka.errors import MokaError, SolverError
from moka.layers.source import Source
from moka.net import Net
from moka.parallel.team import Team
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.faults.replay import replay_name, write_replay
from moka.solver.faults.trace import ArraySummary, first_fault
from moka.types import PathLike

log = logging.getLogger("moka")


class Guard:
    """Keeps steps that are not finite from the parameters, and knows which snapshot is good.

    Args:
        config: the solver's message, its snapshot prefix resolved; replays lie beside snapshots.
        file: the solver's file, for messages.
        net: the net that is trained.

    Attributes:
        last_snapshot: the model written last, None before the first.
        keeps_replay: whether to write the iteration in which a run ends to a file.
    """

    def __init__(self, config: SolverParameter, file: PathLike, net: Net) -> None:
        self.config = config
        self.file = file
        self.net = net
        self.last_snapshot: str | None = None
        self.keeps_replay = True
        self._good_snapshot: str | None = None  # a finite step has followed it
        self._skipped = 0  # steps in a row

    def passed(self) -> None:
        """Note a finite step, which shows that the snapshot before it is good."""
        self._skipped = 0
        self._good_snapshot = self.last_snapshot

    def resumed_from(self, model_file: str) -> None:
        """Note that the run goes on from a snapshot."""
        self.last_snapshot = self._good_snapshot = model_file

    def refuse(
        self, fact: str | None, start: PassStart | None, iteration: int, rate: float, team: Team
    ) -> None:
        """Skip this step: its update would corrupt the parameters. All of a team skip it.

        Args:
            fact: what is not finite here, None if all is; from `nonfinite_fact`.
            start: what the last pass began with; the net goes back there.
            iteration, rate: of this step, for messages and the replay.
            team: the processes that skip it; at least one of them has a fact.

        Raises:
            SolverError: more steps in a row than `skip_nonfinite` allows.
        """
        self._skipped += 1
        why, is_found = "", False
        if fact is not None:
            why, is_found = explain(self.net, start)
        elif start is not None:
            go_back(self.net, start)
        origin, fact, why = _first_cause(team, fact, why, is_found)
        if team.is_connected:
            fact = f"in process {origin} of {team.size} {fact}"
        if self._skipped > self.config.skip_nonfinite:
            how = ""
            if self.keeps_replay and team.rank == origin:
                file = replay_name(self.config.snapshot_prefix, iteration)
                how = keep_for_replay(file, self.net, start, iteration=iteration, rate=rate)
            how = team.gather_messages(how.encode())[origin].decode()
            raise self._diverged(fact, iteration, rate, why, how)
        if team.is_first or not team.is_connected:
            log.warning("%s at iteration %d: skipped. %s", fact, iteration, why)

    def check_parameters(
        self, parameters: Sequence[Tensor], iteration: int, rate: float, team: Team
    ) -> None:
        """Raises SolverError if a parameter is not finite in any process of a team."""
        if team.any(not all_finite([p.detach() for p in parameters]))[0]:
            raise self._diverged("a parameter is not a finite number", iteration, rate)

    def _diverged(
        self, fact: str, iteration: int, rate: float, why: str = "", how: str = ""
    ) -> SolverError:
        """The error that ends the run: why, what to go on from, and how to examine it."""
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


def _first_cause(team: Team, fact: str | None, why: str, is_found: bool) -> tuple[int, str, str]:
    """The rank, fact and explanation of the process in which a fault began.

    Gradients that have been averaged already are not finite in any process; only the one with the
    cause finds it when it runs the pass again.
    """
    told = team.gather_messages(json.dumps([fact, why, is_found]).encode())
    facts = {rank: json.loads(message) for rank, message in told.items()}
    faulty = [rank for rank, (fact, _, _) in facts.items() if fact is not None]
    origin = next((rank for rank in faulty if facts[rank][2]), faulty[0])
    return origin, facts[origin][0], facts[origin][1]


def nonfinite_fact(loss: float, gradients_are_finite: bool) -> str | None:
    """The beginning of a sentence about what is not finite after a pass; None if all is."""
    if not isfinite(loss):
        return f"the loss is {loss}"
    if not gradients_are_finite:
        return f"the loss is {loss:g}, but gradients are not finite"
    return None


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether every number is finite; called with all gradients after each pass.

    A sum costs a fraction of `isfinite` (on a CPU 0.3 % of LeNet's iteration). It may overflow
    itself, so if it is not finite each number is checked.
    """
    if not tensors:
        return True
    if tensors[0].device.type == "cuda":
        total = float(torch.stack(torch._foreach_norm(list(tensors))).sum())  # a few kernels
    else:
        total = sum([tensor.sum().item() for tensor in tensors])
    return isfinite(total) or all(bool(tensor.isfinite().all()) for tensor in tensors)


def explain(net: Net, start: PassStart | None) -> tuple[str, bool]:
    """Sentences that name the first array of a pass that is not finite, and the batch's records.

    Afterwards the net stands at the start of the pass.

    Returns:
        (sentences, whether such an array was found).
    """
    if start is None:
        return "", False
    names = batch_names(net)
    fault = first_fault(net, start)
    if fault is None:
        said = ["Run again layer by layer, every value is finite."]
    else:
        said = [f"Not finite at first: {fault.place} ({fault.extent})."]
    for i, records in names.items():
        said.append(_batch_text(net.graph.nodes[i].name, records, fault))
    return " ".join(said), fault is not None


def batch_names(net: Net) -> dict[int, list[str]]:
    """Names of the records in the last batch, by the layer's index, where they are known."""
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
    """Write an iteration's file; returns a sentence: how to use it, or why it could not be kept."""
    if start is None:
        return ""
    try:
        write_replay(file, net, start, iteration=iteration, rate=rate, records=batch_names(net))
    except OSError as error:
        return f"The iteration could not be kept in {file}: {error.strerror}."
    return f"See that iteration layer by layer with --replay={file}."
