"""A net's outputs as numbers, one by one, and their means over batches."""

from __future__ import annotations

from collections.abc import Callable

from moka.engine.contract import Engine
from moka.errors import NetError
from moka.net import Net
from moka.report.records import Output


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
) -> tuple[tuple[Output, ...], float] | None:
    """Means of every output and of the loss over some batches.

    Args:
        engine: runs the net.
        batches: how many passes.
        on_batch: called after each batch with its number and outputs; True gives up.

    Returns:
        (outputs, loss), or None if given up.

    Raises:
        NetError: the count of output numbers changes from batch to batch.
    """
    sums: list[float] = []
    loss = 0.0
    outputs: tuple[Output, ...] = ()
    for i in range(batches):
        loss += float(engine.forward())
        outputs = outputs_of(engine.net)
        if sums and len(sums) != len(outputs):
            raise NetError(
                f"its outputs have {len(sums)} numbers in one batch and {len(outputs)} in another:"
                " they have no mean.",
                advice='Detections are scored by a solver with eval_type: "detection".',
            )
        sums = [s + o.value for s, o in zip(sums or [0.0] * len(outputs), outputs, strict=True)]
        if on_batch(i, outputs):
            return None
    means = (Output(o.name, s / batches, o.loss_weight) for o, s in zip(outputs, sums, strict=True))
    return tuple(means), loss / batches
