"""Layers that step through time: each step starts from the state of the step before it.

Time is the first axis: T timesteps of N independent streams. The indicator `cont` (T, N) multiplies
the state that a step takes over: 0 starts a new sequence, 1 continues the old one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.linear import inner_product
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.shapes import shape_text
from moka.schema import caffe_pb2
from moka.types import Shape


class _LSTMUnit(Function):
    """One step of an LSTM with BVLC Caffe's gradient.

    The forget gate's derivative is f (1 - f), with f already multiplied by the indicator. This is
    exact if the indicator is 0 or 1, but not for a fraction.
    """

    @staticmethod
    def forward(ctx: Any, c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        d = c_prev.shape[-1]
        opened = torch.sigmoid(gates[..., : 3 * d])  # input, forget and output gate
        opened[..., d : 2 * d] *= cont
        candidate = torch.tanh(gates[..., 3 * d :])
        i, f, o = opened.chunk(3, -1)
        c = f * c_prev + i * candidate
        squashed = torch.tanh(c)
        ctx.save_for_backward(c_prev, opened, candidate, squashed)
        return c, o * squashed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dc: Tensor, dh: Tensor) -> tuple[Tensor, Tensor, None]:
        c_prev, opened, candidate, squashed = ctx.saved_tensors
        i, f, o = opened.chunk(3, -1)
        dc = dc + torch.ops.aten.tanh_backward(dh * o, squashed)
        d_opened = torch.cat([dc * candidate, dc * c_prev, dh * squashed], -1)
        d_gates = torch.cat(
            [
                torch.ops.aten.sigmoid_backward(d_opened, opened),
                torch.ops.aten.tanh_backward(dc * i, candidate),
            ],
            -1,
        )
        return dc * f, d_gates, None


def lstm_unit(c_prev: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
    """One step of an LSTM. Returns the new cell state and the hidden state, (..., D) each.

    c = cont sigmoid(f) c_prev + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c).

    Args:
        c_prev: the cell state (..., D).
        gates: input, forget, output and candidate gate before their nonlinearity, (..., 4 D).
        cont: the indicator (..., 1).
    """
    return _LSTMUnit.apply(c_prev, gates, cont.detach())  # type: ignore[no-untyped-call]


def lstm(
    gates: Tensor, cont: Tensor, weight: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Run an LSTM over a sequence. Returns all h (T, N, D) and the last h and c.

    Args:
        gates: the inputs' contribution to the gates (T, N, 4 D).
        cont: the indicator (T, N).
        weight: the recurrent weight (4 D, D).
        h, c: the first states (N, D).
    """
    hidden = []
    for driven, keep in zip(gates.unbind(), cont.detach()[..., None].unbind(), strict=True):
        c, h = lstm_unit(c, torch.addmm(driven, h * keep, weight.t()), keep)
        hidden.append(h)
    return torch.stack(hidden), h, c


def rnn(driven: Tensor, cont: Tensor, weight: Tensor, h: Tensor) -> Tensor:
    """h[t] = tanh(driven[t] + weight (cont[t] h[t - 1])). Returns all h (T, N, D).

    Args:
        driven: the inputs' contribution (T, N, D).
        cont: the indicator (T, N).
        weight: the recurrent weight (D, D).
        h: the first state (N, D).
    """
    hidden = []
    for step, keep in zip(driven.unbind(), cont.detach()[..., None].unbind(), strict=True):
        h = torch.tanh(torch.addmm(step, h * keep, weight.t()))
        hidden.append(h)
    return torch.stack(hidden)


class Recurrent(Layer):
    """Base of RNN and LSTM: bottoms, parameters of the inputs, and the state between passes.

    Each pass starts from the state that the last pass left. The state is zero at first, and again
    when the number of streams changes. No gradient flows through it, so sequences longer than T are
    learned in pieces of T. It is not a parameter: models do not hold it, a solver's snapshots do.
    Apart from this state `forward` is pure; `again` repeats the last pass without changing it.

    Attributes:
        states: the number of (N, D) arrays that a step hands on.
        rows: rows of the input weight per unit.
        target: the letter in BVLC Caffe's parameter names for what the inputs contribute to.
        state: where the next pass starts, (states, N, D).
        start: where the last pass started, (states, N, D).
    """

    keeps_state_in_place: ClassVar[bool] = True
    states: ClassVar[int]
    rows: ClassVar[int]
    target: ClassVar[str]

    state: Tensor
    start: Tensor

    num_output: int = option(positive, unset_is_none=True, required=True)
    weight_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    debug_info: bool = option()
    expose_hidden: bool = option()

    def setup(self, x: Shape, cont: Shape, *others: Shape) -> None:
        if len(x) < 2 or not x[0]:
            raise NetError(
                f"takes sequences (T, N, ...) of T > 0 timesteps and N streams, got shape"
                f" {shape_text(x)}."
            )
        exposed = self.states if self.expose_hidden else 0
        option = f"with expose_hidden: {str(self.expose_hidden).lower()} it"
        if len(others) - exposed not in (0, 1):
            raise NetError(
                f"{option} takes {2 + exposed} bottoms (or {3 + exposed}, with a static input),"
                f" got {2 + len(others)}."
            )
        if self.top_count != 1 + exposed:
            raise NetError(
                f"{option} makes {1 + exposed} top{'s' * (exposed > 0)}, got {self.top_count}."
            )
        self.has_static = len(others) > exposed
        self.steps, self.streams = x[:2]
        self.inputs = prod(x[2:])
        self.static_inputs = prod(others[0][1:]) if self.has_static else 0
        if not self.expose_hidden:
            for name in ("state", "start"):
                zeros = torch.zeros(self.states, self.streams, self.num_output)
                self.register_buffer(name, zeros, persistent=False)

    def top_shapes(self, x: Shape, cont: Shape, *others: Shape) -> list[Shape]:
        if len(x) < 2 or x[0] != self.steps:
            raise NetError(
                f"the number of timesteps cannot change: the layer was made for {self.steps}, got"
                f" shape {shape_text(x)}."
            )
        if cont != x[:2]:
            raise NetError(
                f"cont must have a value for each timestep and stream, {shape_text(x[:2])}, got"
                f" shape {shape_text(cont)}."
            )
        if prod(x[2:]) != self.inputs:
            raise NetError(
                f"the weights take {self.inputs} inputs a timestep, a bottom of shape"
                f" {shape_text(x)} has {prod(x[2:])}."
            )
        static, firsts = others[: self.has_static], others[self.has_static :]
        for shape in static:
            if shape[:1] != x[1:2] or prod(shape[1:]) != self.static_inputs:
                raise NetError(
                    f"the static input must have {self.static_inputs} values for each of the"
                    f" {x[1]} streams, got shape {shape_text(shape)}."
                )
        state = (1, x[1], self.num_output)
        for shape in firsts:
            if shape != state:
                raise NetError(
                    f"an initial state must have shape {shape_text(state)}, got"
                    f" {shape_text(shape)}."
                )
        return [(*x[:2], self.num_output), *([state] * len(firsts))]

    def parameters_by_name(self) -> dict[str, BlobSpec]:
        """Shape and filler of each parameter by BVLC Caffe's name for it, in order."""
        rows, target = self.rows * self.num_output, self.target
        specs = {
            f"W_x{target}": BlobSpec((rows, self.inputs), self.weight_filler),
            f"b_{target}": BlobSpec((rows,), self.bias_filler),
        }
        if self.has_static:
            shape = (rows, self.static_inputs)
            specs[f"W_x{target}_static"] = BlobSpec(shape, self.weight_filler)
        specs[f"W_h{target}"] = BlobSpec((rows, self.num_output), self.weight_filler)
        return specs

    def blob_specs(self, *bottom_shapes: Shape) -> Iterable[BlobSpec]:
        return (spec._replace(name=name) for name, spec in self.parameters_by_name().items())

    def notes(self) -> list[str]:
        return [
            f"Initializing recurrent layer: assuming input batch contains {self.steps} timesteps"
            f" of {self.streams} independent streams.",
            *(f"Adding parameter {k}: {name}" for k, name in enumerate(self.parameters_by_name())),
        ]

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        if self.expose_hidden:
            return self.again(*bottoms)
        state = self._for_streams(self.state, bottoms[0])
        if state is not self.state:
            with torch.inference_mode(False):  # a later pass may be outside of it
                self.state, self.start = torch.zeros_like(state), torch.zeros_like(state)
        self.start.copy_(self.state)
        tops, last = self._pass(*bottoms)
        self.state.copy_(torch.stack(last).detach())
        return tops

    def again(self, *bottoms: Tensor) -> list[Tensor]:
        return self._pass(*bottoms)[0]

    def run_state(self) -> list[Tensor]:
        return [] if self.expose_hidden else [self.state.clone()]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        (given,) = tensors
        if given.shape != self.state.shape:  # of another number of streams
            self.state, self.start = torch.empty_like(given), torch.zeros_like(given)
        self.state.copy_(given)

    def _for_streams(self, state: Tensor, x: Tensor) -> Tensor:
        """The state, or zeros if x has a different number of streams."""
        shape = (self.states, x.shape[1], self.num_output)
        return state if state.shape == shape else state.new_zeros(shape)

    def _pass(self, x: Tensor, cont: Tensor, *others: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Returns the tops, and the last states, (N, D) each."""
        weight, bias, *weights = self.blobs
        driven = inner_product(x, weight, bias, axis=2, transpose=False)
        if self.has_static:
            static, others = others[0], others[1:]
            driven = driven + inner_product(static, weights.pop(0), axis=1, transpose=False)
        if self.expose_hidden:
            first = [state.detach()[0] for state in others]
        else:
            first = list(self._for_streams(self.start, x).clone())  # the next pass writes to it
        y, *last = self.steps_of(driven, cont, weights, *first)
        final = [state.detach()[None] for state in last] if self.expose_hidden else []
        return [y, *final], last

    def steps_of(
        self, driven: Tensor, cont: Tensor, weights: Sequence[Tensor], *first: Tensor
    ) -> tuple[Tensor, ...]:
        """Run all steps. Returns the output (T, N, D) and the last states.

        Args:
            driven: the inputs' contribution (T, N, rows D).
            cont: the indicator (T, N).
            weights: the parameters other than those of the inputs.
            first: the first states (N, D).
        """
        raise NotImplementedError


@layer("RNN", bottoms=(2, 4), tops=(1, 2), message="recurrent_param", fixed_bottoms=(1,))
class RNN(Recurrent):
    """A simple recurrent network over T timesteps of N streams.

    h[t] = tanh(W_hh (cont[t] h[t - 1]) + W_xh x[t] + b_h [+ W_xh_static x_static]),
    y[t] = tanh(W_ho h[t] + b_o), with D = num_output units.

    Bottoms: x (T, N, ...), flattened to (T, N, K); cont (T, N), 0 where a sequence starts and 1
    elsewhere (a fraction weakens the state that is taken over); optionally x_static (N, ...), the
    same at each step; with expose_hidden the first state (1, N, D). Tops: y (T, N, D); with
    expose_hidden the last state (1, N, D). Without expose_hidden a pass starts from the state that
    the last pass left, at first from zero. Gradients reach x, x_static and the parameters, but
    neither cont nor states of earlier passes. Blobs: W_xh (D, K), b_h (D,), [W_xh_static (D, K')],
    W_hh (D, D), W_ho (D, D), b_o (D,). Message: recurrent_param (`debug_info` has no effect here).

    Errors: no num_output; shapes that do not fit together; a T that changes (N may).
    """

    states, rows, target = 1, 1, "h"

    def parameters_by_name(self) -> dict[str, BlobSpec]:
        d = self.num_output
        output = {
            "W_ho": BlobSpec((d, d), self.weight_filler),
            "b_o": BlobSpec((d,), self.bias_filler),
        }
        return super().parameters_by_name() | output

    def steps_of(
        self, driven: Tensor, cont: Tensor, weights: Sequence[Tensor], *first: Tensor
    ) -> tuple[Tensor, ...]:
        w_hh, w_ho, b_o = weights
        hidden = rnn(driven, cont, w_hh, *first)
        return torch.tanh(inner_product(hidden, w_ho, b_o, axis=2, transpose=False)), hidden[-1]


@layer("LSTM", bottoms=(2, 5), tops=(1, 3), message="recurrent_param", fixed_bottoms=(1,))
class LSTM(Recurrent):
    """Long short-term memory over T timesteps of N streams.

    The gates i, f, o, g = W_hc (cont[t] h[t - 1]) + W_xc x[t] + b_c [+ W_xc_static x_static];
    c[t] = cont[t] sigmoid(f) c[t - 1] + sigmoid(i) tanh(g); h[t] = sigmoid(o) tanh(c[t]), with
    D = num_output units.

    Bottoms: x (T, N, ...), flattened to (T, N, K); cont (T, N), 0 where a sequence starts and 1
    elsewhere (a fraction weakens the state that is taken over); optionally x_static (N, ...), the
    same at each step; with expose_hidden the first h and c, (1, N, D) each. Tops: h (T, N, D); with
    expose_hidden the last h and c, (1, N, D) each. Without expose_hidden a pass starts from the
    state that the last pass left, at first from zero. Gradients reach x, x_static and the
    parameters, but neither cont nor states of earlier passes. Blobs: W_xc (4 D, K), b_c (4 D,),
    [W_xc_static (4 D, K')], W_hc (4 D, D), rows in the order i, f, o, g. Message: recurrent_param
    (`debug_info` has no effect here). Hochreiter and Schmidhuber, 1997; Donahue et al., 2015.

    Errors: no num_output; shapes that do not fit together; a T that changes (N may).

    PyTorch's LSTM has the gates in the order i, f, g, o, two biases, and no cont. For a fractional
    cont the forget gate's gradient is BVLC Caffe's, as in LSTMUnit.
    """

    states, rows, target = 2, 4, "c"

    def steps_of(
        self, driven: Tensor, cont: Tensor, weights: Sequence[Tensor], *first: Tensor
    ) -> tuple[Tensor, ...]:
        return lstm(driven, cont, *weights, *first)


@layer("LSTMUnit", bottoms=3, tops=2, fixed_bottoms=(2,))
class LSTMUnit(Layer):
    """One step of an LSTM, without its weights: c = cont sigmoid(f) c_prev + sigmoid(i) tanh(g),
    h = sigmoid(o) tanh(c).

    Bottoms: c_prev (1, N, D); the gates i, f, o, g side by side (1, N, 4 D); cont (1, N), 0 where a
    sequence starts. Tops: c and h, (1, N, D) each. No gradient for cont.

    Errors: shapes that do not fit together.

    As in BVLC Caffe the forget gate's derivative is f (1 - f) with f = cont sigmoid(f), which is
    not exact for a cont other than 0 and 1.
    """

    def top_shapes(self, c_prev: Shape, gates: Shape, cont: Shape) -> list[Shape]:
        if len(c_prev) != 3 or c_prev[0] != 1:
            raise NetError(f"c_prev must have shape (1, N, D), got {shape_text(c_prev)}.")
        _, n, d = c_prev
        for name, shape, wanted in (("gates", gates, (1, n, 4 * d)), ("cont", cont, (1, n))):
            if shape != wanted:
                raise NetError(
                    f"{name} must have shape {shape_text(wanted)}, got {shape_text(shape)}."
                )
        return [c_prev, c_prev]

    def forward(self, c_prev: Tensor, gates: Tensor, cont: Tensor) -> list[Tensor]:
        return list(lstm_unit(c_prev, gates, cont[..., None]))
