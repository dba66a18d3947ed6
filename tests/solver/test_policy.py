from __future__ import annotations

from math import exp, inf, nan

import pytest

from moka.errors import SolverError
from moka.schema import caffe_pb2, parse_text
from moka.solver.policy import POLICIES, check_policy, rate, stage


def config(text: str) -> caffe_pb2.SolverParameter:
    return parse_text(text, caffe_pb2.SolverParameter)


STEP = 'lr_policy: "step" base_lr: 0.5 gamma: 0.1 stepsize: 10'
MULTISTEP = 'lr_policy: "multistep" base_lr: 2 gamma: 0.5 stepvalue: 3 stepvalue: 5'
RATES = [
    ('lr_policy: "fixed" base_lr: 0.25', {0: 0.25, 1000: 0.25}),
    (STEP, {0: 0.5, 9: 0.5, 10: 0.05, 19: 0.05, 20: 0.005}),
    ('lr_policy: "exp" base_lr: 2 gamma: 0.5', {0: 2.0, 1: 1.0, 3: 0.25}),
    ('lr_policy: "inv" base_lr: 3 gamma: 0.5 power: 2', {0: 3.0, 2: 3 / 4, 4: 3 / 9}),
    (MULTISTEP, {0: 2.0, 2: 2.0, 3: 1.0, 4: 1.0, 5: 0.5, 100: 0.5}),
    ('lr_policy: "poly" base_lr: 4 power: 2 max_iter: 10', {0: 4.0, 5: 1.0, 10: 0.0, 15: 1.0}),
    ('lr_policy: "poly" base_lr: 4 max_iter: 10 power: 0.5', {0: 4.0, 5: 4 * 0.5**0.5, 10: 0.0}),
    (
        'lr_policy: "sigmoid" base_lr: 6 gamma: -0.5 stepsize: 4',
        {0: 6 / (1 + exp(-2)), 4: 3.0, 6: 6 / (1 + exp(1))},
    ),
]


@pytest.mark.parametrize(("text", "wanted"), RATES)
def test_rate(text: str, wanted: dict[int, float]) -> None:
    got = {t: rate(config(text), t) for t in wanted}
    assert got == pytest.approx(wanted, rel=1e-6)  # the fields are float32


def test_every_policy_has_rates_here() -> None:
    assert {config(text).lr_policy for text, _ in RATES} == POLICIES.keys()


@pytest.mark.parametrize(
    ("text", "t", "wanted"),
    [
        ('lr_policy: "poly" base_lr: 4 max_iter: 10 power: 0.5', 11, nan),
        ('lr_policy: "poly" base_lr: 4 max_iter: 10 power: -1', 10, inf),
        ('lr_policy: "inv" base_lr: 4 gamma: -1 power: 0.5', 3, nan),
        ('lr_policy: "inv" base_lr: 4 gamma: -1 power: 1', 1, inf),
        ('lr_policy: "exp" base_lr: 4 gamma: 10', 1000, inf),
    ],
)
def test_where_the_formula_ends(text: str, t: int, wanted: float) -> None:
    """As in C; a run then stops at its loss instead of in an arithmetic exception."""
    assert rate(config(text), t) == pytest.approx(wanted, nan_ok=True)


def test_sigmoid_far_from_its_step_does_not_overflow() -> None:
    p = config('lr_policy: "sigmoid" base_lr: 6 gamma: 1 stepsize: 10000')
    assert rate(p, 0) == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (STEP, {0: 0, 9: 0, 10: 1, 25: 2}),
        (MULTISTEP, {0: 0, 3: 1, 4: 1, 5: 2, 9: 2}),
        ('lr_policy: "exp" stepsize: 2 stepvalue: 3', {0: 0, 9: 0}),
    ],
)
def test_stage(text: str, wanted: dict[int, int]) -> None:
    assert {t: stage(config(text), t) for t in wanted} == wanted


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('lr_policy: "cosine"', r"policy: cosine \(known: fixed, step"),
        ('lr_policy: "stp"', 'Did you mean "step"'),
        ("base_lr: 1", r"policy: \(none\)"),
        ('lr_policy: "step"', "stepsize > 0, got 0"),
        ('lr_policy: "poly"', "max_iter > 0, got 0"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(SolverError, match=says):
        check_policy(config(text))


@pytest.mark.parametrize("text", [text for text, _ in RATES])
def test_what_is_taken(text: str) -> None:
    check_policy(config(text))
