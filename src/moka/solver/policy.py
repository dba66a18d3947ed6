"""Learning-rate policies: pure functions of the solver's message and the iteration.

t is the iteration, counted from 0, warm-up included. Only the plateau policy depends on more than
t: see `moka.solver.plateau`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from math import cos, exp, inf, nan, pi, pow, sqrt

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
    """base_lr * gamma ^ (how many stepvalues are <= t; they should ascend)."""
    return p.base_lr * power(p.gamma, stage(p, t))


def poly(p: SolverParameter, t: int) -> float:
    """From base_lr to min_lr: min_lr + (base_lr - min_lr) * (1 - t / max_iter) ^ power.

    Past max_iter negative, or NaN for a fraction.
    """
    return p.min_lr + (p.base_lr - p.min_lr) * power(1 - t / p.max_iter, p.power)


def cosine(p: SolverParameter, t: int) -> float:
    """From base_lr to min_lr along half a cosine, over max_iter iterations; then min_lr.

    Loshchilov and Hutter, 2017, without restarts.
    """
    return p.min_lr + (p.base_lr - p.min_lr) * (1 + cos(pi * min(1, t / p.max_iter))) / 2


def multifixed(p: SolverParameter, t: int) -> float:
    """The stagelr of the first stageiter that is >= t; past the last one the last stagelr."""
    stages = zip(p.stagelr, p.stageiter, strict=True)
    return next((lr for lr, last in stages if t <= last), p.stagelr[-1])


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
    "cosine": cosine,
    "multifixed": multifixed,
    "plateau": fixed,  # times gamma for each drop
}

# The fields that each policy reads besides base_lr and max_iter.
POLICY_FIELDS: dict[str, tuple[str, ...]] = {
    "fixed": (),
    "step": ("gamma", "stepsize"),
    "exp": ("gamma",),
    "inv": ("gamma", "power"),
    "multistep": ("gamma", "stepvalue"),
    "poly": ("power", "min_lr"),
    "sigmoid": ("gamma", "stepsize"),
    "cosine": ("min_lr",),
    "multifixed": ("stagelr", "stageiter"),
    "plateau": ("gamma", "plateau_winsize"),
}


def stage(p: SolverParameter, t: int) -> int:
    """How many steps the rate has taken (`step`, `multistep`; else 0): Caffe's current_step."""
    if p.lr_policy == "step":
        return t // p.stepsize
    if p.lr_policy == "multistep":
        return _steps_taken(p.stepvalue, t)
    return 0


def _steps_taken(stepvalues: Iterable[int], t: int) -> int:
    """How many of the values an iteration t has passed. As in Caffe they are looked at in their
    order, at most one an iteration; so a value that does not ascend follows the one before it."""
    steps, last = 0, -1
    for value in stepvalues:
        last = max(value, last + 1)
        steps += last <= t
    return steps


def warm_up(p: SolverParameter, t: int) -> float | None:
    """The rate that takes the place of the policy's in the first iterations; None after them."""
    if t < p.warmup_iter:
        return p.warmup_start_lr + (p.base_lr - p.warmup_start_lr) * t / p.warmup_iter
    if t < p.rampup_interval:
        return p.rampup_lr + (p.base_lr - p.rampup_lr) * (t / p.rampup_interval) ** 2
    return None


def rate(p: SolverParameter, t: int, drops: int = 0) -> float:
    """The learning rate of iteration t.

    Args:
        drops: how often a plateau has lowered it.
    """
    warming = warm_up(p, t)
    if warming is not None:
        return warming
    lr = POLICIES[p.lr_policy](p, t) * power(p.gamma, drops)
    return max(lr, p.min_lr) if p.min_lr else lr


def momentum(p: SolverParameter, t: int, lr: float) -> float:
    """The momentum of iteration t, by `momentum_policy` (NVCaffe).

    poly: from momentum to max_momentum, momentum + (max_momentum - momentum) * (t / max_iter) ^
    momentum_power; opt: (1 - sqrt(lr) / 2)^2, at most max_momentum if that is given.

    Args:
        lr: the learning rate.
    """
    if p.momentum_policy == "poly":
        grown = power(t / p.max_iter, p.momentum_power)
        return p.momentum + (p.max_momentum - p.momentum) * grown
    if p.momentum_policy == "opt":
        best = (1 - 0.5 * sqrt(lr)) ** 2
        return min(best, p.max_momentum) if p.HasField("max_momentum") else best
    return p.momentum


def weight_decay(p: SolverParameter, t: int) -> float:
    """The weight decay of iteration t, by `weight_decay_policy` (NVCaffe).

    poly: weight_decay * (t / max_iter) ^ weight_decay_power; if max_weight_decay is set, from
    weight_decay to it, weight_decay + (max_weight_decay - weight_decay) * (t / max_iter) ^
    weight_decay_power.
    """
    if p.weight_decay_policy == "poly":
        grown = power(t / p.max_iter, p.weight_decay_power)
        if p.HasField("max_weight_decay"):
            return p.weight_decay + (p.max_weight_decay - p.weight_decay) * grown
        return p.weight_decay * grown
    return p.weight_decay


def check_other_policies(p: SolverParameter) -> None:
    """Raises SolverError for an unknown policy of momentum or weight decay."""
    for name, known in (
        ("momentum_policy", ("fixed", "poly", "opt")),
        ("weight_decay_policy", ("fixed", "poly")),
    ):
        policy = getattr(p, name)
        if policy not in known:
            raise SolverError(
                f"Unknown {name}: {policy} (known: {', '.join(known)}).",
                advice=did_you_mean(policy, known),
            )
        if policy == "poly" and p.max_iter <= 0:
            raise SolverError(f"{name} poly needs max_iter > 0, got {p.max_iter}.")


def check_policy(p: SolverParameter) -> None:
    """Raises SolverError for an unknown policy, or fields that it lacks or that contradict."""
    if p.lr_policy not in POLICIES:
        raise SolverError(
            f"Unknown learning rate policy: {p.lr_policy or '(none)'} (known:"
            f" {', '.join(POLICIES)}).",
            advice=did_you_mean(p.lr_policy, POLICIES),
        )
    if p.lr_policy == "cosine" and not p.HasField("min_lr"):
        raise SolverError(  # as in BVLC Caffe, which has no cosine
            "Unknown learning rate policy: cosine without min_lr, the rate it ends at.",
            advice="Add min_lr: 0 for Moka's cosine.",
        )
    if p.lr_policy == "step" and p.stepsize <= 0:
        raise SolverError(f"lr_policy step needs stepsize > 0, got {p.stepsize}.")
    if p.lr_policy in ("poly", "cosine") and p.max_iter <= 0:
        raise SolverError(f"lr_policy {p.lr_policy} needs max_iter > 0, got {p.max_iter}.")
    if p.lr_policy == "multifixed":
        _check_stages(p)
    if p.lr_policy == "plateau":
        _check_plateau(p)
    _check_warm_up(p)
    if p.min_lr < 0:
        raise SolverError(f"min_lr must be >= 0, got {p.min_lr:g}.")
    if p.min_lr and p.lr_policy != "multifixed" and p.min_lr > p.base_lr:
        raise SolverError(f"min_lr must be <= base_lr, got {p.min_lr:g} > {p.base_lr:g}.")


def odd_rate(p: SolverParameter) -> str | None:
    """What a warning has to say of a rate that is allowed, but hardly meant."""
    if not p.HasField("base_lr") and p.lr_policy != "multifixed":
        return "base_lr is missing: at a rate of 0 nothing is learned."
    if p.lr_policy == "multistep" and not p.stepvalue:
        return (
            "lr_policy multistep has no stepvalue: the rate stays as it is. (stepsize is for step.)"
        )
    return None


def _check_stages(p: SolverParameter) -> None:
    if not p.stagelr or len(p.stagelr) != len(p.stageiter):
        raise SolverError(
            "lr_policy multifixed needs one stageiter for each stagelr, got"
            f" {len(p.stageiter)} for {len(p.stagelr)}."
        )
    if any(later <= earlier for earlier, later in pairwise(p.stageiter)):
        raise SolverError(f"stageiter must ascend, got {', '.join(map(str, p.stageiter))}.")


def _check_plateau(p: SolverParameter) -> None:
    if not p.plateau_winsize:
        raise SolverError("lr_policy plateau needs plateau_winsize, the iterations to wait.")
    if min(p.plateau_winsize) <= 0:
        raise SolverError(f"plateau_winsize must be > 0, got {min(p.plateau_winsize)}.")
    if not p.HasField("gamma"):
        raise SolverError("lr_policy plateau needs gamma, which each drop multiplies the rate by.")


def _check_warm_up(p: SolverParameter) -> None:
    for name in ("warmup_iter", "rampup_interval"):
        if getattr(p, name) < 0:
            raise SolverError(f"{name} must be >= 0, got {getattr(p, name)}.")
    if p.warmup_iter and p.rampup_interval:
        raise SolverError("Give warmup_iter or rampup_interval, not both.")
    if (p.warmup_iter or p.rampup_interval) and not p.HasField("base_lr"):
        raise SolverError("a warm-up needs base_lr, where it ends.")
    for value, needed in (("warmup_start_lr", "warmup_iter"), ("rampup_lr", "rampup_interval")):
        if p.HasField(value) and not getattr(p, needed):
            raise SolverError(f"{value} does nothing without {needed}.")
