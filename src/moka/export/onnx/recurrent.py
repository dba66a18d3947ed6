"""Layers that step through time, as one group of nodes for each timestep.

ONNX's own LSTM has no indicator of new sequences; it takes the place of a layer whose indicators
are constants that say: one sequence. An exported layer without `expose_hidden` starts each pass
from zero, as a net does in its first pass.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.recurrent import LSTM, RNN, LSTMUnit, Recurrent
from moka.types import Array


@exports(RNN)
def export_rnn(site: Site, layer: RNN, x: Value, cont: Value, *others: Value) -> list[str]:
    driven, (h,), weights = _start(site, layer, x, others)
    w_hh, w_ho, b_o = weights
    hidden = []
    for step, keep in steps_of(site, layer.steps, layer.streams, driven, cont):
        h = site.add("Tanh", site.add("Gemm", site.add("Mul", h, keep), w_hh, step, transB=1))
        hidden.append(h)
    n, d = layer.streams, layer.num_output
    rows = site.add("Concat", *hidden, axis=0)
    y = site.add("Tanh", site.add("Gemm", rows, w_ho, b_o, transB=1))
    return _tops(site, layer, site.reshape(Value(y, (layer.steps * n, d)), site.tops[0]), [h])


@exports(LSTM)
def export_lstm(site: Site, layer: LSTM, x: Value, cont: Value, *others: Value) -> list[str]:
    if not layer.has_static and _is_one_sequence(site.values_of(cont.name), layer.expose_hidden):
        w_x, bias, w_h = layer.blobs
        rows = site.reshape(x, (layer.steps, layer.streams, layer.inputs))
        y, *last = lstm_operator(site, rows, (w_x, w_h, bias), (0, 2, 1), outputs=len(site.tops))
        whole = Value(y, (layer.steps, 1, layer.streams, layer.num_output))
        return [site.reshape(whole, site.tops[0]), *last]
    driven, (h, c), (weight,) = _start(site, layer, x, others)
    hidden = []
    for step, keep in steps_of(site, layer.steps, layer.streams, driven, cont):
        gates = site.add("Gemm", site.add("Mul", h, keep), weight, step, transB=1)
        c, h = lstm_step(site, c, gates, keep, axis=1, units=layer.num_output)
        hidden.append(h)
    rows = site.add("Concat", *hidden, axis=0)
    dims = (layer.steps * layer.streams, layer.num_output)
    return _tops(site, layer, site.reshape(Value(rows, dims), site.tops[0]), [h, c])


def _is_one_sequence(cont: Array | None, exposed: bool) -> bool:
    """Whether indicators (T, N) let all steps but the first go on, and the first start from zero.

    Args:
        exposed: the first step is given a state; else its state is zero whatever the indicator is.
    """
    if cont is None:
        return False
    return bool((cont[1:] == 1).all() and not (exposed and cont[:1].any()))


def lstm_operator(
    site: Site,
    x: str,
    blobs: tuple[Tensor, Tensor, Tensor],
    numbers: tuple[int, int, int],
    *,
    outputs: int = 1,
) -> list[str]:
    """ONNX's LSTM of x (T, N, K), from zero: all h (T, 1, N, D), the last h and c (1, N, D).

    Args:
        blobs: W_x (4 D, K), W_h (4 D, D) and the bias (4 D,), rows in the order i, f, o, g; the
            operator has i, o, f, g.
        numbers: theirs among the layer's parameters.
    """
    units = blobs[1].shape[1]
    ordered = []
    for blob in blobs:
        i, f, o, g = torch.split(blob.detach(), units)
        ordered.append(torch.cat([i, o, f, g]))
    ordered[2] = torch.cat([ordered[2], torch.zeros_like(ordered[2])])  # it has two biases
    names = [
        site.changed_weight(k, values[None]) for k, values in zip(numbers, ordered, strict=True)
    ]
    return site.add_several("LSTM", x, *names, outputs=outputs, hidden_size=units)


def lstm_step(
    site: Site, c: str, gates: str, keep: str, *, axis: int, units: int
) -> tuple[str, str]:
    """The new cell state and the hidden state; gates i, f, o, g side by side along `axis`."""
    i, f, o, g = site.add_several("Split", gates, site.ints(*[units] * 4), outputs=4, axis=axis)
    forget = site.add("Mul", site.add("Sigmoid", f), keep)
    entered = site.add("Mul", site.add("Sigmoid", i), site.add("Tanh", g))
    c = site.add("Add", site.add("Mul", forget, c), entered)
    return c, site.add("Mul", site.add("Sigmoid", o), site.add("Tanh", c))


def _start(
    site: Site, layer: Recurrent, x: Value, others: tuple[Value, ...]
) -> tuple[Value, list[str], list[str]]:
    """What the inputs contribute (T N, rows), the first states (N, D), the other parameters."""
    weight, bias, *weights = site.weights()
    n, d = layer.streams, layer.num_output
    rows = layer.rows * d
    flat = site.reshape(x, (layer.steps * n, layer.inputs))
    driven = site.add("Gemm", flat, weight, bias, transB=1)
    if layer.has_static:
        static, others = site.reshape(others[0], (n, layer.static_inputs)), others[1:]
        added = site.add("Gemm", static, weights.pop(0), transB=1)
        steps = site.reshape(Value(driven, (layer.steps * n, rows)), (layer.steps, n, rows))
        summed = Value(site.add("Add", steps, added), (layer.steps, n, rows))
        driven = site.reshape(summed, (layer.steps * n, rows))
    if layer.expose_hidden:
        first = [site.reshape(state, (n, d)) for state in others]
    else:
        zeros = site.constant(np.zeros((n, d), np.float32), "zeros")
        first = [zeros] * layer.states
    return Value(driven, (layer.steps * n, rows)), first, weights


def steps_of(
    site: Site, steps: int, streams: int, driven: Value, cont: Value
) -> list[tuple[str, str]]:
    """For each timestep what the inputs contribute (N, rows), and the indicator (N, 1)."""
    keep = site.reshape(cont, (steps * streams, 1))
    if steps == 1:
        return [(driven.name, keep)]
    sizes = site.ints(*[streams] * steps)
    parts = (
        site.add_several("Split", x, sizes, outputs=steps, axis=0) for x in (driven.name, keep)
    )
    return list(zip(*parts, strict=True))


def _tops(site: Site, layer: Recurrent, y: str, last: list[str]) -> list[str]:
    """All tops: the output, and with expose_hidden the last states (1, N, D)."""
    if not layer.expose_hidden:
        return [y]
    dims = (layer.streams, layer.num_output)
    return [y, *(site.reshape(Value(state, dims), (1, *dims)) for state in last)]


@exports(LSTMUnit)
def export_lstm_unit(
    site: Site, layer: LSTMUnit, c_prev: Value, gates: Value, cont: Value
) -> list[str]:
    keep = site.reshape(cont, (*cont.dims, 1))
    return list(lstm_step(site, c_prev.name, gates.name, keep, axis=2, units=c_prev.dims[2]))
