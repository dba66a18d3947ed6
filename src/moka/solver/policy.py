"""Learning-rate policies: pure functions of the solver's message and the iteration.

t is the iteration, counted from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, nan, pow

from moka.errors import SolverError, did_you_mean
from moka.schema.caffe_pb2 import SolverParameter

Policy = Callable[[SolverParameter, int], float]


def power(base: float, exponent: float) -> float:
    """base ^ exponent as C computes it: infinite or NaN where Python raises an exception."""
    try:
        return pow(base, exponent)
    except OverflowError:
        return inf
    except ValueError:
        return nan if base else inf


def fixed(p: SolverParameter, t: int) -> float:
    """base_lr."""
    return p.base_lr


def step(p: SolverParameter, t: int) -> float:
    """base_lr * gamma ^ floor(t / stepsize)."""
    return p.base_lr * power(p.gamma, stage(p, t))


def exponential(p: SolverParameter, t: int) -> float:
    """base_lr * gamma ^ t."""
    return p.base_lr * power(p.gamma, t)


def inv(p: SolverParameter, t: int) -> float:
    """base_lr * (1 + gamma t) ^ -power."""
    return p.base_lr * power(1 + p.gamma * t, -p.power)


def multistep(p: SolverParameter, t: int) -> float:
    """base_lr * gamma ^ (how many stepvalues are <= t)."""
    return p.base_lr * power(p.gamma, stage(p, t))


def poly(p: SolverParameter, t: int) -> float:
    """base_lr * (1 - t / max_iter) ^ power; past max_iter negative, or NaN for a fraction."""
    return p.base_lr * power(1 - t / p.max_iter, p.power)


def sigmoid(p: SolverParameter, t: int) -> float:
    """base_lr / (1 + exp(-gamma (t - stepsize))); rises for a positive gamma."""
    return p.base_lr / (1 + exp(min(700.0, -p.gamma * (t - p.stepsize))))


POLICIES: dict[str, Policy] = {
    "fixed": fixed,
    "step": step,
    "exp": exponential,
    "inv": inv,
    "multistep": multistep,
    "poly": poly,
    "sigmoid": sigmoid,
}


def stage(p: SolverParameter, t: int) -> int:
    """How many steps the rate has taken (`step`, `multistep`; else 0): Caffe's current_step."""
    if p.lr_policy == "step":
        return t // p.stepsize
    if p.lr_policy == "multistep":
        return sum(value <= t for value in p.stepvalue)
    return 0


def rate(p: SolverParameter, t: int) -> float:
    """The learning rate of iteration t."""
    return POLICIES[p.lr_policy](p, t)


def check_policy(p: SolverParameter) -> None:
    """Raises SolverError if the policy is unknown or lacks a field it divides by."""
    if p.lr_policy not in POLICIES:
        raise SolverError(
            f"Unknown learning rate policy: {p.lr_policy or '(none)'} (known:"
            f" {', '.join(POLICIES)}).",
            advice=did_you_mean(p.lr_policy, POLICIES),
        )
    if p.lr_policy == "step" and p.stepsize <= 0:
        raise SolverError(f"lr_policy step needs stepsize > 0, got {p.stepsize}.")
    if p.lr_policy == "poly" and p.max_iter <= 0:
        raise SolverError(f"lr_policy poly needs max_iter > 0, got {p.max_iter}.")
