"""The one place that chooses an update rule: the types of solvers by name."""

from __future__ import annotations

from moka.errors import SolverError, did_you_mean
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.adam import Adam, AdamW
from moka.solver.lars import Lars
from moka.solver.rules import AdaDelta, AdaGrad, Nesterov, RMSProp, Rule, Sgd

WITH_MOMENTUM = (
    "SGD",
    "LARS",
    "Nesterov",
)  # types whose momentum may change in the course of a run
RULES: dict[str, type[Rule]] = {
    "SGD": Sgd,
    "LARS": Lars,
    "Nesterov": Nesterov,
    "AdaGrad": AdaGrad,
    "RMSProp": RMSProp,
    "AdaDelta": AdaDelta,
    "Adam": Adam,
    "AdamW": AdamW,
}


def rule_class(config: SolverParameter) -> type[Rule]:
    """The rule of the solver's type.

    Raises:
        SolverError: there is none, or it cannot have one of the fields that are set.
    """
    if config.type not in RULES:
        raise SolverError(
            f"Unknown solver type: {config.type} (known: {', '.join(RULES)}).",
            advice=did_you_mean(config.type, RULES),
        )
    if config.momentum_policy != "fixed" and config.type not in WITH_MOMENTUM:
        raise SolverError(
            f"momentum_policy {config.momentum_policy} works with the types"
            f" {', '.join(WITH_MOMENTUM)}, not with {config.type}."
        )
    for name in ("larc", "local_lr_auto"):
        if getattr(config, name) and config.type not in ("SGD", "LARS"):
            raise SolverError(f"{name} works with type SGD, not with {config.type}.")
    if config.larc_turbo and not config.larc:
        raise SolverError("larc_turbo needs larc: true.")
    rule = Lars if config.larc or config.local_lr_auto else RULES[config.type]
    rule.check(config)
    return rule
