"""Layers that step through time, as one group of nodes for each timestep.

ONNX's own LSTM has no indicator of new sequences. An exported layer without `expose_hidden` starts
each pass from zero, as a net does in its first pass.
"""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.recurrent import LSTM, RNN, LSTMUnit, Recurrent


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
    driven, (h, c), (weight,) = _start(site, layer, x, others)
    hidden = []
    for step, keep in steps_of(site, layer.steps, layer.streams, driven, cont):
        gates = site.add("Gemm", site.add("Mul", h, keep), weight, step, transB=1)
        c, h = lstm_step(site, c, gates, keep, axis=1, units=layer.num_output)
        hidden.append(h)
    rows = site.add("Concat", *hidden, axis=0)
    dims = (layer.steps * layer.streams, layer.num_output)
    return _tops(site, layer, site.reshape(Value(rows, dims), site.tops[0]), [h, c])


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
