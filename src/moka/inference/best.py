"""The best program for a pass: candidates are measured once for each net, shape and number of
threads; later nets of the same structure take the winner without a contest."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from moka.inference.engines import AUTO, backends, chosen
from moka.inference.flow import Flow
from moka.inference.folded import Folded
from moka.inference.make import Maker
from moka.inference.program import Program
from moka.net import Net
from moka.schema import caffe_pb2

log = logging.getLogger("moka.detail")

SMALLEST_S = 2e-4  # of a pass layer by layer; below it a program is not worth its making
CLEARLY = 1.2  # times faster than the layers; then PyTorch's own program is not tried

_winners: dict[Any, str] = {}  # backend by contest; "" if the layers have won


def best_program(
    net: Net, flow: Flow, given: Mapping[str, Tensor], wanted: Collection[str]
) -> Program | None:
    """The program that the engine in force gives; None: layer by layer is best.

    Under the engine "auto" it must be faster than the layers; under another name it need not be.
    """
    is_open = chosen() == AUTO
    contest = (_fingerprint(net), tuple((n, tuple(t.shape)) for n, t in given.items()),
               frozenset(wanted), torch.get_num_threads())  # fmt: skip
    candidates = backends()
    if is_open and contest in _winners:
        candidates = [backend for backend in candidates if backend.name == _winners[contest]]
    if not candidates:
        return None
    maker = Maker(net, flow, given, wanted)
    if is_open and maker.layers_s < SMALLEST_S:
        return None
    best: Program | None = None
    for backend in candidates:
        if best is not None and isinstance(backend, Folded) and _is_clear(best, maker):
            continue
        made = maker.make(backend)
        if made is not None:
            best = maker.faster(best, made) if best is not None else made
    if is_open and best is not None and best.saved_s <= 0 and contest not in _winners:
        best = None
    if is_open:
        _winners[contest] = best.backend if best is not None else ""
    ways = f"by {best.backend}" if best is not None else "layer by layer"
    log.debug("Passes of net %s for testing run %s.", net.name, ways)
    return best


def _is_clear(program: Program, maker: Maker) -> bool:
    seconds = maker.layers_s - program.saved_s
    return seconds * CLEARLY <= maker.layers_s


def _fingerprint(net: Net) -> bytes:
    """Equal for nets of the same structure."""
    param = caffe_pb2.NetParameter()
    param.CopyFrom(net.graph.param)
    for layer in param.layer:
        layer.ClearField("blobs")
    return hashlib.sha256(param.SerializeToString(deterministic=True)).digest()


def forget_winners() -> None:
    """Hold the contests anew."""
    _winners.clear()
