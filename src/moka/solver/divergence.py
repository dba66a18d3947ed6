"""A step whose loss or gradients are not finite numbers: noticed, explained, kept for a replay."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import isfinite

import torch
from torch import Tensor

from moka.engine.pass_start import PassStart
from moka.engine.trace import Look, first_fault
from moka.errors import MokaError
from moka.layers.source import Source
from moka.net import Net
from moka.schema.text import PathLike
from moka.solver.replay import write_replay

log = logging.getLogger("moka")


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


def _batch_text(layer: str, records: list[str], fault: Look | None) -> str:
    span = dict.fromkeys((f'"{records[0]}"', f'"{records[-1]}"'))
    text = f'The batch of layer "{layer}" is {" to ".join(span)}'
    if fault and fault.first and fault.shape[0] == len(records) and not fault.of_parameter:
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
