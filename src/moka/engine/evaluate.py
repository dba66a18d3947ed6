"""A net's outputs as numbers, one by one, and their means over batches."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import astuple

from moka.data.place import CursorState
from moka.engine.contract import Engine
from moka.errors import NetError
from moka.net import Net
from moka.parallel.team import Alone, Team
from moka.report.records import Output

ALONE = Alone()


def outputs_of(net: Net) -> tuple[Output, ...]:
    """Every number of the net's outputs after a pass, element by element."""
    weights = dict(net.loss_tops)
    return tuple(
        Output(name, value, weights.get(name, 0.0))
        for name in net.graph.outputs
        for value in net.blobs[name].data_memory.tensor().flatten().tolist()
    )


def evaluate(
    engine: Engine,
    batches: int,
    on_batch: Callable[[int, tuple[Output, ...]], bool | None] = lambda *_: None,
    team: Team = ALONE,
) -> tuple[tuple[Output, ...], float] | None:
    """Means of every output and of the loss over some batches.

    Args:
        engine: runs the net.
        batches: how many passes.
        on_batch: called after each batch with its number and outputs; True gives up.
        team: the processes that share the batches (`share_batches`); the sums are added in the
            order of the batches, and so are those of one process, bit by bit.

    Returns:
        (outputs, loss), or None if given up.

    Raises:
        NetError: the count of output numbers changes from batch to batch.
    """
    sums: list[float] = []
    loss = 0.0
    outputs: tuple[Output, ...] = ()
    start = _positions(engine.net)
    for first in range(0, batches, team.size):
        asks_to_stop = False
        for i, (of_batch, outputs) in enumerate(_round(engine, team, batches - first), first):
            loss += of_batch
            if sums and len(sums) != len(outputs):
                raise NetError(
                    f"the outputs of the net have {len(sums)} numbers in one batch and"
                    f" {len(outputs)} in another, so they have no mean.",
                    file=engine.net.graph.file,
                    advice='Detections are scored by a solver with eval_type: "detection".',
                )
            sums = [s + o.value for s, o in zip(sums or [0.0] * len(outputs), outputs, strict=True)]
            asks_to_stop |= bool(on_batch(i, outputs))
        if team.any(asks_to_stop)[0]:
            return None
    if batches % team.size:
        _go_to(engine.net, start, batches, team)
    means = (Output(o.name, s / batches, o.loss_weight) for o, s in zip(outputs, sums, strict=True))
    return tuple(means), loss / batches


def _round(engine: Engine, team: Team, remaining: int) -> list[tuple[float, tuple[Output, ...]]]:
    """Loss and outputs of the next batches, one of each process, in order."""
    own = None
    if team.rank < remaining or not team.is_connected:
        own = float(engine.forward()), outputs_of(engine.net)
        if not team.is_connected:
            return [own]
    told = team.gather_messages(json.dumps(own, default=astuple).encode())
    of_all = (json.loads(told[rank]) for rank in range(min(team.size, remaining)))
    return [(loss, tuple(Output(*output) for output in outputs)) for loss, outputs in of_all]


def _positions(net: Net) -> list[CursorState | None]:
    return [source.state() for _, source in net.sources]


def _go_to(net: Net, start: list[CursorState | None], batches: int, team: Team) -> None:
    """Put every process's sources behind the last batch, whoever has read it."""
    rounds = -(-batches // team.size)
    for (_, source), before, after in zip(net.sources, start, _positions(net), strict=True):
        if before is None or after is None:
            continue
        moved = after.records_read - before.records_read  # the first process took part in all
        per_round = team.gather_numbers(moved)[0][0] / rounds
        source.load_state(before.moved(round(per_round / team.size * batches)))
