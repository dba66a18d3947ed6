"""How gradients become updates: the order of Caffe's ApplyUpdate.

Clip the summed gradients (each element, then the norm of all), divide by iter_size, add the
gradient of the regularization, then the rule of the solver's type (`rules`), which turns them into
updates and subtracts those. Bounds of the parameters come last.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch

from moka.errors import SolverError
from moka.parallel.shard import norm_of
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.learnable import Learnable
from moka.solver.policy import momentum, weight_decay
from moka.solver.rules import Rule


class Clipped(NamedTuple):
    """The L2 norm of gradients that were scaled down to the limit."""

    norm: float
    limit: float


def clip_gradients_by_norm(params: Sequence[Learnable], limit: float) -> Clipped | None:
    """Scale all gradients so that their common L2 norm is at most `limit`; negative: off."""
    if limit < 0:
        return None
    norm = norm_of([p.parameter.grad for p in params if p.parameter.grad is not None])
    if norm <= limit:
        return None
    torch._foreach_mul_([p.grad for p in params], limit / norm)
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
        p.grad.add_(p.values.sign(), alpha=weight_decay * p.decay_mult)


def apply_update(
    rule: Rule, config: SolverParameter, iteration: int, rate: float
) -> Clipped | None:
    """Clip, normalize, regularize, update. Returns whether gradients were clipped."""
    params = rule.params
    if not params:
        return None
    clip_elements(params, config.clip_value)
    clipped = clip_gradients_by_norm(params, config.clip_gradients)
    normalize(params, config.iter_size)
    l1, decay = config.regularization_type == "L1", weight_decay(config, iteration)
    if l1 and decay:
        add_l1(params, decay)
    shrink(params, rate, config.adamw_decay)
    rule.momentum = momentum(config, iteration, rate)
    rule.apply(iteration, rate, 0.0 if l1 else decay)
    bound_weights(params, *weight_bounds(config))
    return clipped


def shrink(params: Sequence[Learnable], rate: float, decay: float) -> None:
    """Take rate * lr_mult * decay * decay_mult of each parameter off it, past the gradients: the
    decoupled decay of a fork's Adam (`adamw_decay`). Loshchilov and Hutter, 2019."""
    if decay:
        factors = [1 - rate * p.lr_mult * decay * p.decay_mult for p in params]
        torch._foreach_mul_([p.values for p in params], factors)


def weight_bounds(config: SolverParameter) -> tuple[float | None, float | None]:
    """The lower and upper bound of parameters (caffe-windows); None: no bound.

    `clip_weights` c means [-c, c] if it is above 0.
    """
    lower = config.clamp_weights_lower if config.HasField("clamp_weights_lower") else None
    upper = config.clamp_weights_upper if config.HasField("clamp_weights_upper") else None
    if config.clip_weights > 0:
        lower = max(-config.clip_weights, -inf if lower is None else lower)
        upper = min(config.clip_weights, inf if upper is None else upper)
    return lower, upper


def bound_weights(params: Sequence[Learnable], lower: float | None, upper: float | None) -> None:
    """Bring every element of the parameters that are trained into [lower, upper]."""
    weights = [p.values for p in params if p.lr_mult]
    if lower is not None and weights:
        torch._foreach_clamp_min_(weights, lower)
    if upper is not None and weights:
        torch._foreach_clamp_max_(weights, upper)


def check_regularization(config: SolverParameter) -> None:
    """Raises SolverError unless the type is L1 or L2, and for bounds of parameters that cross."""
    lower, upper = weight_bounds(config)
    if lower is not None and upper is not None and lower > upper:
        raise SolverError(
            f"clamp_weights_lower must be <= clamp_weights_upper, got {lower:g} > {upper:g}."
        )
    if config.regularization_type not in ("L1", "L2"):
        raise SolverError(
            f"Unknown regularization type: {config.regularization_type} (known: L1, L2)."
        )
