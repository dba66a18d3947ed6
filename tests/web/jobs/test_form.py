"""A solver from the fields of a form, by the rules of `caffe train`."""

from __future__ import annotations

from typing import Any

import pytest

from moka.checks.epoch import Epoch
from moka.errors import MokaError, UsageError
from moka.schema import caffe_pb2, parse_text
from moka.solver.policy import POLICIES, POLICY_FIELDS, rate
from moka.web.jobs import form

WANTED = {
    "step": {"gamma": "0.1", "stepsize": "30"},
    "exp": {"gamma": "0.99"},
    "inv": {"gamma": "0.01", "power": "0.75"},
    "multistep": {"gamma": "0.1", "stepvalue": "20 40"},
    "poly": {"power": "2"},
    "sigmoid": {"gamma": "-0.1", "stepsize": "50"},
    "cosine": {"min_lr": "0"},
    "multifixed": {"stagelr": "0.1 0.01", "stageiter": "50, 100"},
    "plateau": {"gamma": "0.5", "plateau_winsize": "10"},
    "fixed": {},
}


def fields(**more: str) -> dict[str, str]:
    return {"base_lr": "0.1", "lr_policy": "fixed", "max_iter": "100", **more}


@pytest.mark.parametrize("policy", POLICIES)
def test_the_rate_of_every_policy_is_drawn(policy: str) -> None:
    shown = form.preview(fields(lr_policy=policy, **WANTED[policy]))
    assert shown.problem == ""
    solver = parse_text(shown.text, caffe_pb2.SolverParameter)
    assert shown.rates == [rate(solver, i) for i in shown.iterations]
    assert (shown.iterations[0], shown.iterations[-1]) == (0, 99)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_fields_of_every_policy_are_known(policy: str) -> None:
    """Those that its rate depends on are those that the form shows."""
    assert set(WANTED[policy]) <= set(POLICY_FIELDS[policy])
    assert set(POLICY_FIELDS[policy]) <= set(form.NAMES)


def test_fields_of_other_policies_are_left_out() -> None:
    solver = form.solver_of(fields(stepsize="30", gamma="0.1", min_lr="0.01"))
    assert not solver.HasField("stepsize")
    assert solver.HasField("min_lr")


@pytest.mark.parametrize(
    ("more", "fact"),
    [
        ({"base_lr": "a lot"}, "base_lr cannot be a lot."),
        ({"max_iter": "1.5"}, "max_iter cannot be 1.5."),
        ({"base_lr": "1 momentum: 2"}, "base_lr cannot be"),
        ({"lr_policy": "stp"}, 'Did you mean "step"'),
        ({"lr_policy": "step", "gamma": "0.1"}, "needs stepsize > 0"),
        ({"type": "Sgd"}, "Unknown solver type"),
        ({"extra": "no_such_field: 3"}, "no_such_field"),
        ({"max_iter": "0"}, "max_iter"),
        ({"base_lr": "0.1, 0.01, x"}, "base_lr cannot be x."),
        ({"max_iter": "10, 0"}, "max_iter has to be at least 1."),
    ],
)
def test_what_is_wrong_is_told(more: dict[str, str], fact: str) -> None:
    assert fact in form.preview(fields(**more)).problem


def test_a_solver_and_its_fields_are_one() -> None:
    text = (
        'base_lr: 0.01 lr_policy: "multistep" gamma: 0.5 stepvalue: 10 stepvalue: 20 max_iter: 30'
        " test_iter: 5 test_interval: 10 solver_mode: CPU clip_value: 3 random_seed: 7"
    )
    solver = parse_text(text, caffe_pb2.SolverParameter)
    told = form.fields_of(solver)
    assert told["stepvalue"] == "10 20"
    assert "clip_value" in told["extra"]
    assert form.solver_of(told) == solver


def test_a_sweep_makes_every_combination() -> None:
    sets = form.sweep(fields(base_lr="0.1, 0.01", momentum="0.9,0.5,", stepvalue="1,2"))
    assert [(s["base_lr"], s["momentum"]) for s in sets] == [
        ("0.1", "0.9"),
        ("0.1", "0.5"),
        ("0.01", "0.9"),
        ("0.01", "0.5"),
    ]
    assert form.varied(fields(base_lr="0.1, 0.01", stepvalue="1,2")) == ["base_lr"]
    with pytest.raises(UsageError, match="makes 100 jobs; at most 64"):
        form.sweep(fields(base_lr=",".join("1" * 10), momentum=",".join("2" * 10)))


def test_iterations_in_epochs() -> None:
    epoch = Epoch(records=1000, batch=10)
    told = form.epochs_told(fields(iter_size="2", snapshot="50"), epoch, 1)
    assert told["epoch"] == {"records": 1000, "taken": 20}
    assert told["epochs"]["max_iter"] == pytest.approx(2.0)
    assert told["epochs"]["snapshot"] == pytest.approx(1.0)
    with_three_processes = form.epochs_told(fields(iter_size="2", snapshot="50"), epoch, 3)
    assert with_three_processes["epochs"]["snapshot"] == pytest.approx(3.0)
    unknown: dict[str, Any] = {"epoch": None, "epochs": {}}
    assert form.epochs_told(fields(), None, 1) == unknown
    assert form.epochs_told(fields(max_iter="x"), Epoch(1, 1), 1) == unknown


def test_the_form_describes_fields_of_the_solver() -> None:
    told = form.description()
    by_name = {f["name"]: f for group in told["groups"] for f in group["fields"]}
    assert by_name["lr_policy"]["choices"] == list(POLICIES)
    assert "GPU" in by_name["solver_mode"]["choices"]
    assert by_name["test_initialization"]["default"] == "true"
    assert by_name["stepvalue"]["repeated"]


def test_the_start_is_a_solver_without_faults() -> None:
    assert form.preview(form.START).problem == ""


def test_extra_fields_that_cannot_be_parsed() -> None:
    with pytest.raises(MokaError):
        form.solver_of(fields(extra="clip_value: {"))
