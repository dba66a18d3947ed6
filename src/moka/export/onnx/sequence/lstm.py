"""The LSTM of caffe-lstm: ONNX's own, or step by step where sequences start inside a batch."""

from __future__ import annotations

import numpy as np

from moka.export.onnx.builder import FLOAT, Site, Value
from moka.export.onnx.dims import require_fixed
from moka.export.onnx.linear import rows_of
from moka.export.onnx.recurrent import lstm_operator, lstm_step, steps_of
from moka.export.onnx.table import exports
from moka.layers.sequence.lstm import Lstm


@exports(Lstm)
def export_lstm(site: Site, layer: Lstm, x: Value, clip: Value | None = None) -> str:
    if clip is None:
        return _own_operator(site, layer, x)
    w_x, w_h, bias = site.weights()
    d = layer.num_output
    rows = rows_of(site, x, 1 + layer.has_axes)
    require_fixed(*rows.dims)
    streams = x.dims[1] if layer.has_axes else layer.batch_size
    steps = rows.dims[0] // streams
    driven = Value(site.add("Gemm", rows.name, w_x, bias, transB=1), (steps * streams, 4 * d))
    goes_on = site.add("Not", site.add("Equal", clip.name, site.number(0)))
    keep = Value(site.add("Cast", goes_on, to=FLOAT), clip.dims)
    h = c = site.constant(np.zeros((streams, d), np.float32), "zeros")
    hidden = []
    for step, kept in steps_of(site, steps, streams, driven, keep):
        gates = site.add("Gemm", site.add("Mul", h, kept), w_h, step, transB=1)
        c, h = lstm_step(site, c, gates, kept, axis=1, units=d)
        hidden.append(h)
    y = Value(site.add("Concat", *hidden, axis=0), (steps * streams, d))
    return site.reshape(y, site.tops[0])


def _own_operator(site: Site, layer: Lstm, x: Value) -> str:
    d, streams = layer.num_output, x.dims[1] if layer.has_axes else layer.batch_size
    steps = x.dims[0] if layer.has_axes else _divided(x.dims[0], streams)
    rows = site.reshape(x, (steps, streams, layer.inputs))
    w_x, w_h, bias = layer.blobs
    (y,) = lstm_operator(site, rows, (w_x, w_h, bias), (0, 1, 2))
    return site.reshape(Value(y, (steps, 1, streams, d)), site.tops[0])


def _divided(rows: int, streams: int) -> int:
    """Timesteps of so many rows, which may be a multiple of the batch."""
    if rows % streams:
        require_fixed(rows)
    return rows // streams
