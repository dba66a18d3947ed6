"""How gradients become updates: the order of Caffe's ApplyUpdate.

Clip the summed gradients (each element, then the norm of all), divide by iter_size, add the
gradient of the regularisation, then the rule of the solver's type (`rules`), which turns them into
updates and subtracts those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from moka.errors import SolverError
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.learnable import Learnable
from moka.solver.rules import Rule


class Clipped(NamedTuple):
    """The L2 norm of gradients that were scaled down to the limit."""

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


def clip_elements(params: Sequence[Learnable], limit: float) -> None:
    """Bring every element of the gradients into [-limit, limit]; negative: off."""
    if limit >= 0:
        grads = [p.grad for p in params]
        torch._foreach_clamp_min_(grads, -limit)
        torch._foreach_clamp_max_(grads, limit)


def normalize(params: Sequence[Learnable], iter_size: int) -> None:
    """Divide the gradients, which are sums over iter_size batches."""
    if iter_size > 1:
        torch._foreach_mul_([p.grad for p in params], 1 / iter_size)


def add_l1(params: Sequence[Learnable], weight_decay: float) -> None:
    """Add weight_decay * decay_mult * sign(w)."""
    for p in params:
        p.grad.add_(p.parameter.detach().sign(), alpha=weight_decay * p.decay_mult)


def apply_update(
    rule: Rule, config: SolverParameter, iteration: int, rate: float
) -> Clipped | None:
    """Clip, normalise, regularise, update. Returns whether gradients were clipped."""
    params = rule.params
    if not params:
        return None
    clip_elements(params, config.clip_value)
    clipped = clip(params, config.clip_gradients)
    normalize(params, config.iter_size)
    l1 = config.regularization_type == "L1"
    if l1 and config.weight_decay:
        add_l1(params, config.weight_decay)
    rule.apply(iteration, rate, 0.0 if l1 else config.weight_decay)
    return clipped


def check_regularization(config: SolverParameter) -> None:
    """Raises SolverError unless the type is L1 or L2."""
    if config.regularization_type not in ("L1", "L2"):
        raise SolverError(
            f"Unknown regularization type: {config.regularization_type} (known: L1, L2)."
        )
