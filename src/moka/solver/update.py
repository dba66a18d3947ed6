"""How gradients become updates: the order of Caffe's ApplyUpdate.

Clip the summed gradients (each element, then the norm of all), divide by iter_size, add the
gradient of the regularization, then the rule of the solver's type (`rules`), which turns them into
updates and subtracts those. Bounds of the parameters come last.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

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


def clip_on_device(params: Sequence[Learnable], limit: float) -> Tensor | None:
    """As `clip_gradients_by_norm`, without reading the norm back.

    Returns:
        The norm before, a scalar on the device; None if clipping is off.
    """
    if limit < 0:
        return None
    grads = [p.grad for p in params]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    torch._foreach_mul_(grads, (limit / norm).clamp_max(1))
    return norm


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
    l2 = _regularize(rule, config, iteration, rate)
    rule.apply(iteration, rate, l2)
    bound_weights(params, *weight_bounds(config))
    return clipped


def queue_update(
    rule: Rule, config: SolverParameter, iteration: int, rate: float | Tensor, unless: Tensor
) -> Tensor | None:
    """As `apply_update`, but all of it is work for the device, where `unless` lies.

    Args:
        rate: the learning rate, or the rule's `step_rate` as a scalar on the device.
        unless: if this is not 0, parameters and histories keep their values; the gradients are lost
            all the same.

    Returns:
        The norm of the gradients before they were clipped; None if they are not.
    """
    params = rule.params
    if not params:
        return None
    own = rule.leaves_out and not config.adamw_decay and weight_bounds(config) == (None, None)
    with nullcontext() if own else _kept_if(unless, rule):
        clip_elements(params, config.clip_value)
        norm = clip_on_device(params, config.clip_gradients)
        if isinstance(rate, Tensor):
            l2 = _regularize(rule, config, iteration, 0.0)
            rule.apply_recorded(rate, l2, unless)
        else:
            l2 = _regularize(rule, config, iteration, rate)
            rule.apply(iteration, rate, l2, unless)
        bound_weights(params, *weight_bounds(config))
    return norm


def can_be_recorded(rule: Rule, config: SolverParameter) -> bool:
    """Whether `queue_update` depends on the iteration by the rule's `step_rate` alone."""
    policies = config.momentum_policy, config.weight_decay_policy
    return rule.can_be_recorded and not config.adamw_decay and set(policies) == {"fixed"}


@contextmanager
def _kept_if(unless: Tensor, rule: Rule) -> Iterator[None]:
    """If the scalar `unless` is not 0, what the block does to parameters and histories is undone.

    Where a number is not finite arithmetic cannot do that, so the old values are kept and chosen.
    """
    state = [*(p.values for p in rule.params), *rule.state_tensors()]
    old = [tensor.clone() for tensor in state]
    yield
    keep = unless != 0
    torch._foreach_copy_(state, [torch.where(keep, o, s) for o, s in zip(old, state, strict=True)])


def _regularize(rule: Rule, config: SolverParameter, iteration: int, rate: float) -> float:
    """Normalize gradients and add what does not belong to the rule; returns the decay of L2, which
    does."""
    params = rule.params
    normalize(params, config.iter_size)
    l1, decay = config.regularization_type == "L1", weight_decay(config, iteration)
    if l1 and decay:
        add_l1(params, decay)
    shrink(params, rate, config.adamw_decay)
    rule.momentum = momentum(config, iteration, rate)
    return 0.0 if l1 else decay


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
