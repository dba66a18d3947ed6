"""Calls of a net as a PyTorch module, run by programs where that gives the same result."""

from __future__ import annotations

import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, is_autocast_enabled, nn
from torch._C import _is_tracing, _len_torch_dispatch_stack, _len_torch_function_stack
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import Function
from torch.compiler import is_compiling
from torch.nn.modules import module as modules

from moka.engine.channels_last import channels_last
from moka.inference.fast import Fast
from moka.layers.base import Layer
from moka.net import Net

Tensors = Mapping[str, Tensor]
# PyTorch's dicts of hooks on all modules; torch 2.6 has no function that says if there are any.
HOOKS_OF_ALL = (
    modules._global_forward_pre_hooks,
    modules._global_forward_hooks,
    modules._global_backward_pre_hooks,
    modules._global_backward_hooks,
)


def speed_up(net: Net) -> Net:
    """Let calls of a net run as programs; returns the net.

    The outputs are what the layers give, within 1e-4 of their scale. They have gradients as usual:
    a backward pass from them runs the layers first.

    Args:
        net: nobody has got hold of its parameters yet.
    """
    net.runner = ModuleRunner(net)
    return net


class ModuleRunner:
    """Computes a net's outputs by a program, or layer by layer while there is none.

    Layer by layer go all calls that ask for more than numbers: with a gradient of an input, under
    autocast, function transforms, tracers and dispatch modes, and with hooks on layers. So do
    calls with gradients once parameters are trained.

    Several threads may call it at once.
    """

    def __init__(self, net: Net) -> None:
        self._reference = weakref.ref(net)
        self.net = cast("Net", weakref.proxy(net))
        self._fast = Fast(self.net)
        self._sources = [place for place in net.places if not place.node.bottoms]
        self._tops_of_sources = {top for place in self._sources for top in place.node.tops}
        self._inputs, self._outputs = net.graph.inputs, net.graph.outputs
        self._with_gradients: dict[str, bool] = {}  # outputs that have been seen with gradients on
        self._mode_changes: int | None = None  # when no layer had hooks or trained
        self.is_trained = False  # a backward pass has reached the parameters

    def __call__(self, inputs: Tensors, wanted: Collection[str]) -> dict[str, Tensor]:
        if not _asks_for_numbers(inputs) or self._has_modes():
            return self.net.propagate(inputs, wanted)
        given = self._all_given(inputs) if self._fast.is_possible else None
        if given is None:
            return self.net.propagate(_laid_out(inputs), wanted)  # which says what is missing
        if not torch.is_grad_enabled():
            return self._fast_or_not(given, wanted)
        return self._with_graph(given, wanted)

    def again(self, arrays: Sequence[Tensor]) -> dict[str, Tensor] | None:
        """The outputs for the net's inputs, if the program that has run the last passes may run
        this one; None: call this."""
        if len(arrays) != len(self._inputs) or torch.is_grad_enabled():
            return None
        given = dict(zip(self._inputs, arrays, strict=True))
        if not _asks_for_numbers(given) or self._mode_changes != Layer.mode_changes:
            return None
        program = self._fast.settled(given, self._outputs)
        made = None if program is None else self._fast.run_by(program, given)
        return None if made is None else {name: made[name] for name in self._outputs}

    def _has_modes(self) -> bool:
        """Whether layers have hooks or train; looked at only when something may have changed, for
        that takes long: a pass leaves nothing in the processor's cache."""
        if self._mode_changes != Layer.mode_changes:
            has_modes = any(
                layer.training
                or layer._forward_hooks
                or layer._forward_pre_hooks
                or layer._backward_hooks
                or layer._backward_pre_hooks
                for layer in self.net.layers
            )
            self._mode_changes = None if has_modes else Layer.mode_changes
        return self._mode_changes is None

    def _all_given(self, inputs: Tensors) -> Tensors | None:
        """The tops of all layers without bottoms; None if some of the caller's are missing."""
        if inputs.keys() == self._tops_of_sources:
            return inputs
        given = dict(inputs)
        for place in self._sources:
            if all(top in given for top in place.node.tops):
                continue
            if place.layer.entry.source == "caller" or any(t in given for t in place.node.tops):
                return None
            given.update(zip(place.node.tops, self.net.run_layer(place, ()), strict=True))
        return given

    def _fast_or_not(self, given: Tensors, wanted: Collection[str]) -> dict[str, Tensor]:
        made = self._fast.run(given, wanted)
        return self._by_layers(given, wanted) if made is None else made

    def _by_layers(self, given: Tensors, wanted: Collection[str]) -> dict[str, Tensor]:
        acted = self._fast.acted
        blobs = self.net.propagate(_laid_out(given), {*wanted, *acted})
        with torch.no_grad():
            self._fast.learn({**given, **{name: blobs[name].detach() for name in acted}}, wanted)
        return {name: blobs[name] for name in wanted}

    def _with_graph(self, given: Tensors, wanted: Collection[str]) -> dict[str, Tensor]:
        """Outputs with a graph, which lead to the parameters."""
        if any(tensor.requires_grad for tensor in given.values()):
            return self.net.propagate(_laid_out(given), wanted)
        weights = [w for x in self.net.layers for w in x.weights_unseen() if w.requires_grad]
        if not weights:
            return self._fast_or_not(given, wanted)
        if self._fast.acted:  # its layers could not run again for a backward pass
            return self.net.propagate(_laid_out(given), wanted)
        self.is_trained |= weights[0].grad is not None
        known = all(name in self._with_gradients for name in wanted)
        if not known or self.is_trained or self._fast.program(given, wanted) is None:
            blobs = self._by_layers(given, wanted)
            self._with_gradients.update({n: blobs[n].requires_grad for n in wanted})
            return blobs
        names = tuple(wanted)
        made = _Lazily.apply(self, self._reference(), given, names, *weights)  # type: ignore[no-untyped-call]
        return dict(zip(names, made, strict=True))

    def has_gradient(self, name: str) -> bool:
        """Whether an output depends on parameters by a differentiable way."""
        return self._with_gradients[name]

    def compute(self, given: Tensors, names: Collection[str]) -> list[Tensor]:
        """Outputs in this order, without a graph."""
        with torch.no_grad():
            found = self._fast_or_not(given, names)
        return [found[name] for name in names]

    def for_copy(self, net: Net) -> ModuleRunner:
        return type(self)(net)


class _Lazily(Function):
    """Outputs of a program whose graph is made only if somebody runs backward."""

    @staticmethod
    def forward(
        ctx: Any,
        runner: ModuleRunner,
        net: Net,
        given: Tensors,
        names: tuple[str, ...],
        *weights: nn.Parameter,
    ) -> tuple[Tensor, ...]:
        ctx.runner, ctx.net, ctx.given, ctx.names = runner, net, given, names
        ctx.save_for_backward(*weights)  # so that PyTorch refuses them if they have been changed
        made = tuple(runner.compute(given, names))
        ctx.mark_non_differentiable(
            *(t for t, name in zip(made, names, strict=True) if not runner.has_gradient(name))
        )
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        weights, runner, names = ctx.saved_tensors, ctx.runner, ctx.names
        runner.is_trained = True
        with torch.enable_grad():
            blobs = ctx.net.propagate(_laid_out(ctx.given), names)
        made = [
            (blobs[name], gradient)
            for name, gradient in zip(names, gradients, strict=True)
            if blobs[name].requires_grad
        ]
        found = torch.autograd.grad(
            [blob for blob, _ in made],
            weights,
            [gradient for _, gradient in made],
            create_graph=torch.is_grad_enabled(),
            allow_unused=True,
        )
        return (None, None, None, None, *found)


def _laid_out(inputs: Tensors) -> Tensors:
    return {name: channels_last(tensor) for name, tensor in inputs.items()}


def _asks_for_numbers(inputs: Tensors) -> bool:
    """Whether a call asks for nothing but numbers of float32 inputs on the CPU."""
    if is_compiling() or _is_tracing() or is_autocast_enabled("cpu"):
        return False
    if peek_interpreter_stack() is not None:
        return False
    if _len_torch_dispatch_stack() or _len_torch_function_stack():
        return False
    if any(HOOKS_OF_ALL):
        return False
    for x in inputs.values():  # a comprehension takes twice as long
        if type(x) is not Tensor or x.dtype is not torch.float32 or not x.is_cpu:
            return False
    return True
