"""A solver from the fields of a form: its text, what is wrong with it, its rate, its epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite
from typing import Any

from moka.checks.epoch import Epoch
from moka.errors import MokaError, UsageError
from moka.schema import caffe_pb2, format_text, parse_text
from moka.schema.comments import field_comments, running_text
from moka.schema.fields import is_repeated
from moka.solver.choose import RULES
from moka.solver.config import check_solver
from moka.solver.policy import POLICIES, POLICY_FIELDS, momentum, rate

Solver = caffe_pb2.SolverParameter
Fields = Mapping[str, str]

MOST_JOBS = 64  # of one sweep
RATE_POINTS = 300
GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Length", ("max_iter", "iter_size", "display", "average_loss")),
    (
        "Learning rate",
        (
            "base_lr",
            "lr_policy",
            *dict.fromkeys(name for names in POLICY_FIELDS.values() for name in names),
            "warmup_iter",
            "warmup_start_lr",
        ),
    ),
    (
        "Update",
        (
            "type",
            "momentum",
            "momentum2",
            "rms_decay",
            "delta",
            "weight_decay",
            "regularization_type",
            "clip_gradients",
            "ema_decay",
        ),
    ),
    ("Tests", ("test_iter", "test_interval", "test_initialization")),
    ("Snapshots", ("snapshot", "snapshot_keep", "snapshot_best", "early_stop")),
    ("Machine", ("solver_mode", "random_seed", "precision")),
)
NAMES = tuple(name for _, names in GROUPS for name in names)
CHOICES: dict[str, Sequence[str]] = {
    "lr_policy": tuple(POLICIES),
    "type": tuple(RULES),
    "regularization_type": ("L2", "L1"),
}
UNITS = {
    "max_iter": "iterations",
    "display": "iterations",
    "stepsize": "iterations",
    "stepvalue": "iterations",
    "stageiter": "iterations",
    "plateau_winsize": "iterations",
    "warmup_iter": "iterations",
    "test_interval": "iterations",
    "snapshot": "iterations",
    "test_iter": "batches",
    "iter_size": "batches",
    "average_loss": "iterations",
    "early_stop": "tests",
    "snapshot_keep": "snapshots",
}
START: Fields = {  # of a form that begins with nothing
    "max_iter": "1000",
    "display": "20",
    "base_lr": "0.01",
    "lr_policy": "step",
    "gamma": "0.1",
    "stepsize": "500",
    "power": "0.75",
    "type": "SGD",
    "momentum": "0.9",
    "weight_decay": "0.0005",
    "test_iter": "10",
    "test_interval": "100",
    "snapshot": "500",
    "solver_mode": "CPU",
}


_OF_POLICIES = frozenset(name for names in POLICY_FIELDS.values() for name in names)


def description() -> dict[str, Any]:
    """The form's fields in groups, with their kinds, choices, units and what they do."""
    said = field_comments()["SolverParameter"]
    groups = [
        {"title": title, "fields": [_described(name, running_text(said[name])) for name in names]}
        for title, names in GROUPS
    ]
    return {"groups": groups, "policies": {k: list(v) for k, v in POLICY_FIELDS.items()}}


def _described(name: str, comment: str) -> dict[str, Any]:
    field = Solver.DESCRIPTOR.fields_by_name[name]
    choices = list(CHOICES.get(name, ()))
    if field.enum_type is not None:
        choices = [value.name for value in field.enum_type.values]
    if field.cpp_type == field.CPPTYPE_BOOL:
        choices = ["true", "false"]
    return {
        "name": name,
        "choices": choices,
        "repeated": _is_repeated(name),
        "unit": UNITS.get(name, ""),
        "help": comment,
        "default": "" if _is_repeated(name) else _text(name, field.default_value),
    }


def _is_repeated(name: str) -> bool:
    return is_repeated(Solver.DESCRIPTOR.fields_by_name[name])


def _text(name: str, value: Any) -> str:
    """A value as the form shows it."""
    field = Solver.DESCRIPTOR.fields_by_name[name]
    if field.enum_type is not None:
        return str(field.enum_type.values_by_number[value].name)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def fields_of(solver: Solver) -> dict[str, str]:
    """A solver's fields as the form shows them; `extra` has the others as text."""
    fields = {}
    extra = Solver()
    extra.CopyFrom(solver)
    for name in NAMES:
        if _is_repeated(name):
            fields[name] = " ".join(_text(name, each) for each in getattr(solver, name))
        elif solver.HasField(name):
            fields[name] = _text(name, getattr(solver, name))
        extra.ClearField(name)
    for name in ("net", "net_param", "snapshot_prefix", "weights"):
        extra.ClearField(name)
    return {**{k: v for k, v in fields.items() if v}, "extra": format_text(extra)}


def solver_of(fields: Fields) -> Solver:
    """The solver that the fields make; those that its policy does not read are left out.

    Raises:
        UsageError: a field that is no number, no known word.
        SchemaError: fields that are written by hand (`extra`) cannot be parsed.
    """
    policy = str(fields.get("lr_policy", "")).strip()
    unused = _OF_POLICIES - set(POLICY_FIELDS.get(policy, _OF_POLICIES)) - {"min_lr"}
    lines = [
        line
        for name in NAMES
        if name not in unused
        for line in _lines(name, str(fields.get(name, "")).strip())
    ]
    solver = Solver()
    for line in lines:
        try:
            solver.MergeFrom(parse_text(line, Solver))
        except MokaError:
            name, _, value = line.partition(": ")
            raise UsageError(f"{name} cannot be {value}.") from None
    solver.MergeFrom(parse_text(str(fields.get("extra", "")), Solver))
    return solver


def _lines(name: str, text: str) -> Iterator[str]:
    if not text:
        return
    quoted = (
        Solver.DESCRIPTOR.fields_by_name[name].cpp_type
        == Solver.DESCRIPTOR.fields_by_name[name].CPPTYPE_STRING
    )
    for value in text.replace(",", " ").split() if _is_repeated(name) else [text]:
        if quoted:
            value = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        elif any(mark in value for mark in "{}[]:;#\n\"'"):
            raise UsageError(f"{name} cannot be {value}.")
        yield f"{name}: {value}"


def sweep(fields: Fields) -> list[dict[str, str]]:
    """One set of fields for each combination of the values that commas divide.

    Fields that are lists themselves, such as stepvalue, are not varied.

    Raises:
        UsageError: more than MOST_JOBS.
    """
    choices = {
        name: values
        for name in NAMES
        if not _is_repeated(name)
        and len(values := [v.strip() for v in str(fields.get(name, "")).split(",") if v.strip()])
        > 1
    }
    count = 1
    for values in choices.values():
        count *= len(values)
    if count > MOST_JOBS:
        raise UsageError(f"this makes {count} jobs; at most {MOST_JOBS} are made at once.")
    return [
        {**fields, **dict(zip(choices, values, strict=True))}
        for values in product(*choices.values())
    ]


def varied(fields: Fields) -> list[str]:
    """Names of the fields that a sweep varies."""
    return [
        name
        for name in NAMES
        if not _is_repeated(name) and "," in str(fields.get(name, "")).strip(", ")
    ]


@dataclass(frozen=True)
class Preview:
    """What a form makes so far.

    Attributes:
        text: the solver as prototxt, "" if it cannot be made.
        problem: what is wrong, "" for nothing.
        iterations, rates, momenta: of `RATE_POINTS` iterations at most.
    """

    text: str
    problem: str
    iterations: list[int]
    rates: list[float | None]
    momenta: list[float | None]


def preview(fields: Fields) -> Preview:
    """A form's solver, by the rules of `caffe train`; of a sweep the first is shown, all are
    checked."""
    text = ""
    try:
        solvers = [solver_of(each) for each in sweep(fields)]
        solver, text = solvers[0], format_text(solvers[0])
        for each in solvers:
            check_solver(each, "solver.prototxt")
            if each.max_iter < 1:
                raise UsageError("max_iter has to be at least 1.")
        last = solver.max_iter - 1
        points = min(last + 1, RATE_POINTS)
        iterations = [round(i * last / max(1, points - 1)) for i in range(points)]
        for edge in (*solver.stepvalue, *solver.stageiter):
            iterations += [i for i in (edge - 1, edge, edge + 1) if 0 <= i <= last]
        iterations = sorted(set(iterations))
        rates = [rate(solver, i) for i in iterations]
        momenta = [momentum(solver, i, r) for i, r in zip(iterations, rates, strict=True)]
    except MokaError as error:
        return Preview(text, str(error), [], [], [])
    finite = [[v if isfinite(v) else None for v in values] for values in (rates, momenta)]
    return Preview(text, "", iterations, *finite)


def taken(epoch: Epoch, solver: Solver, batches: int) -> int:
    """How many records an iteration takes.

    Args:
        batches: that all processes take in one pass.
    """
    return epoch.batch * max(1, solver.iter_size) * batches


def epochs_told(fields: Fields, epoch: Epoch | None, batches: int) -> dict[str, Any]:
    """`epoch`: records of an epoch, and how many an iteration takes; `epochs`: for each field in
    iterations, how many epochs it is. Both are empty if an epoch is not known.

    Args:
        batches: as for `taken`.
    """
    try:
        solver = solver_of(sweep(fields)[0])
    except MokaError:
        epoch = None
    if epoch is None:
        return {"epoch": None, "epochs": {}}
    each = taken(epoch, solver, batches)
    counts = {
        name: getattr(solver, name) * each / epoch.records
        for name, unit in UNITS.items()
        if unit == "iterations" and not _is_repeated(name) and getattr(solver, name)
    }
    return {"epoch": {"records": epoch.records, "taken": each}, "epochs": counts}
