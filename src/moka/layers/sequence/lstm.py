"""The LSTM of caffe-lstm, which CTPN uses: time and streams are one axis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.linear import inner_product
from moka.layers.options import not_negative, option, positive
from moka.layers.recurrent import lstm_unit
from moka.layers.registry import layer
from moka.layers.shapes import require_axes, shape_text
from moka.schema import caffe_pb2
from moka.types import Array, Shape


class _ClippedGradient(Function):
    """The values as they are; the gradient limited to [-limit, limit]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float) -> Tensor:
        ctx.limit = limit
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.clamp(-ctx.limit, ctx.limit), None


@layer(
    "Lstm",
    bottoms=(1, 2),
    tops=1,
    message="lstm_param",
    fork="caffe-lstm and CTPN",
    fixed_bottoms=(1,),
)
class Lstm(Layer):
    """Long short-term memory whose bottom holds the timesteps of all streams, one after another.

    The gates i, f, o, g = W_x x[t] + W_h h[t - 1] + b; c[t] = sigmoid(f) c[t - 1] + sigmoid(i)
    tanh(g); h[t] = sigmoid(o) tanh(c[t]), with D = num_output units.

    Bottoms: x (T N, ...), flattened to (T N, K), timestep by timestep, N = batch_size streams; or,
    without batch_size, CTPN's x (T, N, K). Optionally clip (T N), 0 where a sequence starts and
    another number elsewhere (no gradient). Top: h (T N, D), or (T, N, D). Without clip each pass
    starts from zero; with it a pass goes on from the state that the last pass left, at first from
    zero, unless clip is 0. No gradient flows through that state; a solver's snapshots keep it.
    Blobs: W_x (4 D, K), W_h (4 D, D), b (4 D,), rows in the order i, f, o, g. Message: lstm_param.
    clipping_threshold above 0 limits the gradient of each gate before its nonlinearity to that
    size. Hochreiter and Schmidhuber, 1997.

    Errors: no num_output; a first axis that batch_size does not divide; shapes that do not fit.

    LSTM is BVLC Caffe's layer: it has its bias before the recurrent weight and an axis for time.
    """

    state: Tensor
    start: Tensor

    num_output: int = option(positive, required=True)
    clipping_threshold: float = option(not_negative)
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    batch_size: int = option(positive)

    def setup(self, x: Shape, *clip: Shape) -> None:
        self.has_axes = len(x) == 3 and not self.config.lstm_param.HasField("batch_size")
        self.inputs = prod(x[1 + self.has_axes :])
        zeros = torch.zeros(2, x[1] if self.has_axes else self.batch_size, self.num_output)
        self.register_buffer("state", zeros, persistent=False)
        self.register_buffer("start", zeros, persistent=False)

    def top_shapes(self, x: Shape, *clip: Shape) -> list[Shape]:
        require_axes(2 + self.has_axes, x)
        if not self.has_axes and x[0] % self.batch_size:
            raise NetError(
                f"the first axis must be a multiple of batch_size = {self.batch_size}, got shape"
                f" {shape_text(x)}."
            )
        leading = x[: 1 + self.has_axes]
        if prod(x[len(leading) :]) != self.inputs:
            raise NetError(
                f"the weights take {self.inputs} inputs a timestep, got shape {shape_text(x)}."
            )
        for shape in clip:
            if prod(shape) != prod(leading):
                raise NetError(
                    f"clip must have a value for each timestep and stream, {prod(leading)}, got"
                    f" shape {shape_text(shape)}."
                )
        return [(*leading, self.num_output)]

    def blob_specs(self, x: Shape, *clip: Shape) -> Iterable[BlobSpec]:
        rows = 4 * self.num_output
        yield BlobSpec((rows, self.inputs), self.weight_filler, "W_x")
        yield BlobSpec((rows, self.num_output), self.weight_filler, "W_h")
        yield BlobSpec((rows,), self.bias_filler, "b")

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """The first caffe-lstm stores (1, 4, D, K), (1, 4, D, D) and (1, 1, 4, D)."""
        adapted = dict(stored)
        for k, shape in enumerate(self.blob_shapes):
            gates = (4, self.num_output, *shape[1:])
            if k in stored and stored[k].shape == (1,) * (4 - len(gates)) + gates:
                adapted[k] = stored[k].reshape(shape)
        return adapted

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        return prod(tops[0]) * 4 * (self.inputs + self.num_output)

    def run_state(self) -> list[Tensor]:
        return [self.state]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        (self.state,) = tensors

    def forward(self, x: Tensor, *clip: Tensor) -> Tensor:
        self.start = self.state
        y, last = self._pass(x, *clip)
        if clip:
            self.state = last.detach()
        return y

    def again(self, x: Tensor, *clip: Tensor) -> Tensor:
        return self._pass(x, *clip)[0]

    def _pass(self, x: Tensor, *clip: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the top and the last h and c, (2, N, D)."""
        w_x, w_h, bias = self.blobs
        shape = self.top_shapes(tuple(x.shape), *(tuple(c.shape) for c in clip))[0]
        streams = shape[1] if self.has_axes else self.batch_size
        steps = prod(shape[:-1]) // max(1, streams)
        rows = x.reshape(steps * streams, self.inputs)
        gates = inner_product(rows, w_x, bias, axis=1, transpose=False)
        driven = gates.view(steps, streams, 4 * self.num_output)
        if clip:
            keep = (clip[0].detach().reshape(steps, streams, 1) != 0).to(x)
        else:
            keep = x.new_ones(steps, streams, 1)
            keep[:1] = 0
        h, c = self._start(streams, x)
        hidden = []
        for step, kept in zip(driven.unbind(), keep.unbind(), strict=True):
            total = torch.addmm(step, h * kept, w_h.t())
            if self.clipping_threshold:
                total = _ClippedGradient.apply(  # type: ignore[no-untyped-call]
                    total, self.clipping_threshold
                )
            c, h = lstm_unit(c, total, kept)
            hidden.append(h)
        y = torch.stack(hidden) if hidden else driven[..., : self.num_output]
        return y.reshape(shape), torch.stack([h, c])

    def _start(self, streams: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The state that the last pass left, or zeros if x has another number of streams."""
        shape = (2, streams, self.num_output)
        h, c = self.start if self.start.shape == shape else self.start.new_zeros(shape)
        return h.to(x), c.to(x)
