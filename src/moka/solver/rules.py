"""Update rules, one for each solver type: they compute updates from gradients and histories.

g is the gradient with regularization, r the learning rate times the parameter's lr_mult, h, m, v, u
are histories of the parameter's shape, zeros at first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import inf
from typing import ClassVar

import torch
from torch import Tensor

from moka.errors import SolverError
from moka.parallel.shard import gathered, is_divided, part_of
from moka.schema import blobproto
from moka.schema.caffe_pb2 import RunState, SolverParameter, SolverState
from moka.solver.blocks import blocks
from moka.solver.learnable import Learnable
from moka.types import Array

Tensors = list[Tensor]

ONE, MANY_STEPS = torch.tensor(1.0), torch.tensor(1e12)


class Rule:
    """A solver type: its histories, and `update`, its formula.

    Args:
        params: what it updates.
        config: the solver's message.

    Attributes:
        leaves_updates: whether `updates` is going to be asked for.

    Raises:
        SolverError: fields that this type cannot have.
    """

    histories: ClassVar[int] = 1  # arrays kept for each parameter
    leaves_out: ClassVar[bool] = False  # whether `apply` heeds `unless` by itself
    can_be_recorded: ClassVar[bool] = True  # whether there is an `apply_recorded`

    def __init__(self, params: Sequence[Learnable], config: SolverParameter) -> None:
        self.check(config)
        self.config = config
        self.momentum = config.momentum  # of the current iteration
        self.params = params
        self.leaves_updates = True
        self._history = [
            [torch.zeros_like(p.values) for p in params] for _ in range(self.histories)
        ]
        self._gathered: Tensors | None = None
        self._rate: float | Tensor = 0.0  # of the last update
        self._kernel_left_gradients = False  # the last update did, in place of updates
        self._groups: dict[tuple[float, float], list[int]] = {}
        for i, p in enumerate(params):
            self._groups.setdefault((p.lr_mult, p.decay_mult), []).append(i)

    @classmethod
    def check(cls, config: SolverParameter) -> None:
        """Raises SolverError for fields that this type cannot have."""

    def step_rate(self, iteration: int, rate: float) -> float:
        """What `apply_recorded` is given for an iteration and its rate."""
        return rate

    def apply_recorded(
        self, step_rate: Tensor, weight_decay: float, unless: Tensor | None = None
    ) -> None:
        """As `apply`, with all that changes from iteration to iteration in a scalar on the device,
        so that a recording of it is good for every iteration (`moka.engine.captured`)."""
        self.apply(0, step_rate, weight_decay, unless)

    def apply(
        self,
        iteration: int,
        rate: float | Tensor,
        weight_decay: float,
        unless: Tensor | None = None,
    ) -> None:
        """Update all parameters.

        Args:
            iteration: counted from 0.
            rate: the learning rate.
            weight_decay: of L2 regularization, which is added to the gradients here.
            unless: a scalar on the device; if it is not 0, a rule that `leaves_out` changes
                nothing, and others do not look at it.
        """
        self._rate = rate
        members = list(self._members(rate, weight_decay))
        # A kernel is told of its scale by a number that it reads back: no step of a GPU may.
        by_kernel = (
            unless is None
            and self.has_kernel
            and all(
                isinstance(r, float) and _have_one_layout(weights, grads, *history)
                for r, _, weights, grads, history in members
            )
        )
        self._kernel_left_gradients = by_kernel
        folds = by_kernel and not self.leaves_updates
        for r, decay, weights, grads, history in members:
            for w, g, *h in blocks(weights, grads, *history):
                if decay and not folds:
                    torch._foreach_add_(g, w, alpha=decay)
                if by_kernel and isinstance(r, float):
                    self.kernel(r, decay if folds else 0.0, w, g, *h)
                    continue
                self.update(iteration, r, g, *h)
                factor = self.factor(r)
                if isinstance(factor, Tensor):
                    torch._foreach_sub_(w, torch._foreach_mul(g, factor))
                else:
                    torch._foreach_sub_(w, g, alpha=factor)

    def _members(
        self, rate: float | Tensor, weight_decay: float
    ) -> Iterator[tuple[float | Tensor, float, Tensors, Tensors, list[Tensors]]]:
        """Parameters of equal factors: rate, decay, values, gradients, histories."""
        for (lr_mult, decay_mult), members in self._groups.items():
            yield (
                rate * lr_mult,
                weight_decay * decay_mult,
                [self.params[i].values for i in members],
                [self.params[i].grad for i in members],
                [[kind[i] for i in members] for kind in self._history],
            )

    def update(self, iteration: int, r: float | Tensor, g: Tensors, *history: Tensors) -> None:
        """Turn the gradients, in place, into updates but for their `factor`."""
        raise NotImplementedError

    @property
    def has_kernel(self) -> bool:
        """Whether there is a `kernel`."""
        return False

    def kernel(self, r: float, decay: float, w: Tensors, g: Tensors, *history: Tensors) -> None:
        """Update parameters by one of PyTorch's kernels for a CPU, which read and write all numbers
        once.

        Args:
            decay: that is not in the gradients yet.
        """
        raise NotImplementedError

    def factor(self, r: float | Tensor) -> float | Tensor:
        """What updates are multiplied by on their way into the parameters."""
        return r

    def updates(self) -> Tensors:
        """What the last `apply` subtracted from each parameter."""
        return [p.grad * self.factor(self._rate * p.lr_mult) for p in self.params]

    def history(self) -> Tensors:
        """The histories themselves, in Caffe's order."""
        return [tensor for kind in self._history for tensor in kind]

    def state_tensors(self) -> Tensors:
        """All that an update changes beside the parameters."""
        return self.history()

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """Inside, which all processes enter, `state` has the histories of divided parameters."""
        parameters = [p.parameter for _ in self._history for p in self.params]
        if any(map(is_divided, parameters)):
            self._gathered = [*map(gathered, self.history(), parameters)]
        try:
            yield
        finally:
            self._gathered = None

    def state(self) -> SolverState:
        """The histories and the solver's type."""
        arrays = (tensor.detach().cpu().numpy() for tensor in self._gathered or self.history())
        return SolverState(
            history=map(blobproto.from_array, arrays),
            run_state=RunState(solver_type=self.config.type),
        )

    def check_type(self, state: SolverState) -> None:
        """Raises SolverError if a state belongs to another type of solver."""
        made_by = state.run_state.solver_type
        if made_by and made_by != self.config.type:
            raise SolverError(
                f"this is the state of a solver of type {made_by}, not of {self.config.type}.",
                advice=f'Set type: "{made_by}", or start from the model alone (--weights).',
            )

    def load_state(self, state: SolverState) -> None:
        """Copy a state's histories into this rule's.

        Raises:
            SolverError: another number of histories, or other shapes; nothing is copied.
        """
        arrays = self.fitting_histories(state)
        for i, (array, tensor) in enumerate(zip(arrays, self.history(), strict=True)):
            parameter = self.params[i % len(self.params)].parameter
            tensor.copy_(part_of(torch.from_numpy(array).view(parameter.shape), parameter))

    def fitting_histories(self, state: SolverState) -> list[Array]:
        """A state's histories; raises SolverError unless they fit this rule's parameters."""
        own = [p.parameter for _ in self._history for p in self.params]
        if len(state.history) != len(own):
            raise SolverError(
                f"Incorrect length of history blobs: the file has {len(state.history)}, the solver"
                f" {len(own)}.",
                advice="The state belongs to another net or solver type.",
            )
        arrays = [blobproto.to_array(blob) for blob in state.history]
        for i, (array, tensor) in enumerate(zip(arrays, own, strict=True)):
            if array.size != tensor.numel():
                raise SolverError(
                    f"history {i} has shape {array.shape}, the solver's has {tuple(tensor.shape)}."
                )
        return arrays


class Sgd(Rule):
    """Stochastic gradient descent with momentum: h = momentum h + r g; w -= h.

    Caffe keeps the rate inside the history h, PyTorch outside: its kernel computes
    h = momentum h + (1 - dampening) (g + decay w); w -= lr h. So dampening = 1 - r and lr = 1
    make it Caffe's; 1 - dampening is the rate but for double precision's rounding of 1. A rate on
    the device is the kernel's grad_scale instead, which divides the gradients.
    """

    @property
    def leaves_out(self) -> bool:  # type: ignore[override]
        return bool(self.momentum)

    def apply(
        self,
        iteration: int,
        rate: float | Tensor,
        weight_decay: float,
        unless: Tensor | None = None,
    ) -> None:
        for r, decay, weights, grads, (h,) in self._members(rate, weight_decay):
            if not self.momentum:
                self._without_momentum(r, decay, weights, grads, h)
            elif isinstance(r, Tensor):
                torch._foreach_add_(grads, weights, alpha=decay)
                self._fused(weights, grads, h, unless, grad_scale=1 / r)
            else:
                self._fused(weights, grads, h, unless, weight_decay=decay, dampening=1.0 - r)

    def _without_momentum(
        self, r: float | Tensor, decay: float, weights: Tensors, grads: Tensors, history: Tensors
    ) -> None:
        for w, g, h in blocks(weights, grads, history):
            torch._foreach_copy_(h, g)
            torch._foreach_add_(h, w, alpha=decay)
            torch._foreach_mul_(h, r)
            torch._foreach_sub_(w, h)

    def _fused(
        self,
        weights: Tensors,
        grads: Tensors,
        h: Tensors,
        unless: Tensor | None,
        *,
        grad_scale: Tensor | None = None,
        weight_decay: float = 0.0,
        dampening: float = 0.0,
    ) -> None:
        # PyTorch's function around it takes 7 us more, four times the kernel of a small net.
        torch._fused_sgd_(
            weights,
            grads,
            h,
            grad_scale=grad_scale,
            found_inf=unless,
            weight_decay=weight_decay,
            momentum=self.momentum,
            lr=1.0,
            dampening=dampening,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def updates(self) -> Tensors:
        return self._history[0]


class Nesterov(Rule):
    """Accelerated gradient: h' = momentum h + r g; w -= (1 + momentum) h' - momentum h.

    Nesterov, 1983; Sutskever et al., 2013.
    """

    def update(self, iteration: int, r: float | Tensor, g: Tensors, *history: Tensors) -> None:
        (h,) = history
        torch._foreach_mul_(g, r)
        torch._foreach_mul_(h, self.momentum)
        torch._foreach_add_(h, g)  # so that (1 + momentum) h' - momentum h is momentum h' + r g
        torch._foreach_add_(g, h, alpha=self.momentum)

    @property
    def has_kernel(self) -> bool:
        return bool(self.momentum)

    def kernel(self, r: float, decay: float, w: Tensors, g: Tensors, *history: Tensors) -> None:
        """PyTorch's h = momentum h + g; w -= g + momentum h, with gradients times r; it leaves
        these."""
        (h,) = history
        torch._fused_sgd_(
            w,
            g,
            h,
            grad_scale=torch.tensor(1 / r if r else inf),
            weight_decay=r * decay,
            momentum=self.momentum,
            lr=1.0,
            dampening=0.0,
            nesterov=True,
            maximize=False,
            is_first_step=False,
        )

    def updates(self) -> Tensors:
        grads = [p.grad for p in self.params]
        if not self._kernel_left_gradients:
            return grads
        return list(torch._foreach_add(grads, self._history[0], alpha=self.momentum))

    def factor(self, r: float | Tensor) -> float | Tensor:
        return 1.0


class AdaGrad(Rule):
    """h += g^2; w -= r g / (sqrt(h) + delta). Duchi et al., 2011. Takes no momentum."""

    has_kernel = True

    @classmethod
    def check(cls, config: SolverParameter) -> None:
        if config.momentum:
            raise SolverError(f"Momentum cannot be used with {config.type}.")

    def update(self, iteration: int, r: float | Tensor, g: Tensors, *history: Tensors) -> None:
        (h,) = history
        torch._foreach_addcmul_(h, g, g)
        divide_by_root(g, h, self.config.delta)

    def kernel(self, r: float, decay: float, w: Tensors, g: Tensors, *history: Tensors) -> None:
        (h,) = history
        torch._fused_adagrad_(
            w,
            g,
            h,
            [ONE] * len(w),
            lr=r,
            lr_decay=0.0,
            weight_decay=decay,
            eps=self.config.delta,
            maximize=False,
        )

    def updates(self) -> Tensors:
        updates = super().updates()
        if self._kernel_left_gradients:
            divide_by_root(updates, self._history[0], self.config.delta)
        return updates


class RMSProp(AdaGrad):
    """h = rms_decay h + (1 - rms_decay) g^2; w -= r g / (sqrt(h) + delta). Takes no momentum.

    Tieleman and Hinton, 2012.
    """

    @classmethod
    def check(cls, config: SolverParameter) -> None:
        super().check(config)
        if not 0 <= config.rms_decay < 1:
            raise SolverError(
                f"rms_decay should lie between 0 and 1, 1 excluded, got {config.rms_decay:g}."
            )

    def update(self, iteration: int, r: float | Tensor, g: Tensors, *history: Tensors) -> None:
        (h,) = history
        decay = self.config.rms_decay
        torch._foreach_mul_(h, decay)
        torch._foreach_addcmul_(h, g, g, value=1 - decay)
        divide_by_root(g, h, self.config.delta)

    def kernel(self, r: float, decay: float, w: Tensors, g: Tensors, *history: Tensors) -> None:
        """PyTorch's for Adam without momentum: its mean of gradients is g itself and may lie where
        g does. After so many steps it no longer corrects h."""
        (h,) = history
        torch._fused_adam_(
            w,
            g,
            g,
            h,
            [],
            [MANY_STEPS] * len(w),
            lr=r,
            beta1=0.0,
            beta2=self.config.rms_decay,
            weight_decay=decay,
            eps=self.config.delta,
            amsgrad=False,
            maximize=False,
        )


class AdaDelta(Rule):
    """h = momentum h + (1 - momentum) g^2; d = g sqrt((u + delta) / (h + delta));
    u = momentum u + (1 - momentum) d^2; w -= r d. Zeiler, 2012."""

    histories = 2

    def update(self, iteration: int, r: float | Tensor, g: Tensors, *history: Tensors) -> None:
        h, u = history
        momentum, delta = self.config.momentum, self.config.delta
        torch._foreach_mul_(h, momentum)
        torch._foreach_addcmul_(h, g, g, value=1 - momentum)
        factor = torch._foreach_add(u, delta)
        torch._foreach_div_(factor, torch._foreach_add(h, delta))
        torch._foreach_sqrt_(factor)
        torch._foreach_mul_(g, factor)
        torch._foreach_mul_(u, momentum)
        torch._foreach_addcmul_(u, g, g, value=1 - momentum)


def _have_one_layout(weights: Tensors, *others: Tensors) -> bool:
    """Whether a kernel for a CPU may run over their numbers as they lie."""
    return all(w.device.type == "cpu" for w in weights) and all(
        tensor.stride() == w.stride()
        for tensors in others
        for tensor, w in zip(tensors, weights, strict=True)
    )


def divide_by_root(x: Tensors | tuple[Tensor, ...], h: Tensors, delta: float) -> None:
    """x /= sqrt(h) + delta."""
    root = torch._foreach_sqrt(h)
    torch._foreach_add_(root, delta)
    torch._foreach_div_(x, root)
