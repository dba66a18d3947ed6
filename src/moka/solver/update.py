"""How gradients become updates: the order of Caffe's ApplyUpdate, and a rule for each solver type.

The order: clip the summed gradients, divide by iter_size, add the gradient of the regularisation,
then the rule: it turns gradients and histories into updates, and subtracts them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd as torch_sgd

from moka.errors import SolverError, did_you_mean
from moka.schema.caffe_pb2 import SolverParameter


@dataclass(frozen=True)
class Learnable:
    """A parameter with its factors of the learning rate and of weight decay."""

    parameter: nn.Parameter
    lr_mult: float
    decay_mult: float

    @property
    def grad(self) -> Tensor:
        assert self.parameter.grad is not None
        return self.parameter.grad


class Clipped(NamedTuple):
    """That the gradients were scaled down, and from which L2 norm."""

    norm: float
    limit: float


def clip(params: Sequence[Learnable], limit: float) -> Clipped | None:
    """Scale all gradients so that their common L2 norm is at most `limit`; negative: off."""
    if limit < 0:
        return None
    grads = [p.grad for p in params]
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))))
    if norm <= limit:
        return None
    torch._foreach_mul_(grads, limit / norm)
    return Clipped(norm, limit)


def normalize(params: Sequence[Learnable], iter_size: int) -> None:
    """Divide the gradients, which are sums over iter_size batches."""
    if iter_size > 1:
        torch._foreach_mul_([p.grad for p in params], 1 / iter_size)


def add_l1(params: Sequence[Learnable], weight_decay: float) -> None:
    """Add weight_decay * decay_mult * sign(w)."""
    for p in params:
        p.grad.add_(p.parameter.detach().sign(), alpha=weight_decay * p.decay_mult)


class Rule(Protocol):
    """One solver type's update, with its histories."""

    def apply(self, rate: float, weight_decay: float) -> None:
        """Update all parameters for gradients without L2 decay, which the rule adds."""

    def updates(self) -> list[Tensor]:
        """What the last `apply` subtracted from each parameter."""

    def history(self) -> list[Tensor]:
        """The histories themselves, in Caffe's order; written to on resuming."""


class Sgd:
    """Stochastic gradient descent with momentum: h = momentum h + rate (g + decay w); w -= h.

    Caffe keeps the rate inside the history h, PyTorch outside: its kernel computes
    h = momentum h + (1 - dampening) (g + decay w); w -= lr h. So dampening = 1 - rate and lr = 1
    make it Caffe's; 1 - dampening is the rate but for double precision's rounding of 1.
    """

    def __init__(self, params: Sequence[Learnable], config: SolverParameter) -> None:
        self.momentum = config.momentum
        self.params = params
        self._history = [torch.zeros_like(p.parameter) for p in params]
        self._groups: dict[tuple[float, float], list[int]] = {}
        for i, p in enumerate(params):
            self._groups.setdefault((p.lr_mult, p.decay_mult), []).append(i)

    def apply(self, rate: float, weight_decay: float) -> None:
        for (lr_mult, decay_mult), members in self._groups.items():
            weights = [self.params[i].parameter.detach() for i in members]
            grads = [self.params[i].grad for i in members]
            history = [self._history[i] for i in members]
            if self.momentum:
                torch_sgd(
                    weights,
                    grads,
                    list(history),
                    fused=True,
                    weight_decay=weight_decay * decay_mult,
                    momentum=self.momentum,
                    lr=1.0,
                    dampening=1.0 - rate * lr_mult,
                    nesterov=False,
                    maximize=False,
                )
                continue
            torch._foreach_copy_(history, grads)
            torch._foreach_add_(history, weights, alpha=weight_decay * decay_mult)
            torch._foreach_mul_(history, rate * lr_mult)
            torch._foreach_sub_(weights, history)

    def updates(self) -> list[Tensor]:
        return self._history

    def history(self) -> list[Tensor]:
        return self._history


RULES: dict[str, Callable[[Sequence[Learnable], SolverParameter], Rule]] = {"SGD": Sgd}


def make_rule(params: Sequence[Learnable], config: SolverParameter) -> Rule:
    """The rule of the solver's type, which `check_type` knows."""
    return RULES[config.type](params, config)


def check_type(config: SolverParameter) -> None:
    """Raises SolverError if there is no such solver type."""
    if config.type not in RULES:
        raise SolverError(
            f"Unknown solver type: {config.type} (known: {', '.join(sorted(RULES))}).",
            advice=did_you_mean(config.type, RULES),
        )


def apply_update(
    params: Sequence[Learnable], rule: Rule, config: SolverParameter, rate: float
) -> Clipped | None:
    """Clip, normalise, regularise, update. Returns whether gradients were clipped."""
    clipped = clip(params, config.clip_gradients)
    normalize(params, config.iter_size)
    l1 = config.regularization_type == "L1"
    if l1 and config.weight_decay:
        add_l1(params, config.weight_decay)
    rule.apply(rate, 0.0 if l1 else config.weight_decay)
    return clipped


def check_regularization(config: SolverParameter) -> None:
    """Raises SolverError unless the type is L1 or L2."""
    if config.regularization_type not in ("L1", "L2"):
        raise SolverError(
            f"Unknown regularization type: {config.regularization_type} (known: L1, L2)."
        )
