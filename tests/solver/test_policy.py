from __future__ import annotations

from math import cos, exp, inf, nan, pi

import pytest

from moka.errors import SolverError
from moka.schema import caffe_pb2, parse_text
from moka.solver.policy import (
    POLICIES,
    check_other_policies,
    check_policy,
    momentum,
    odd_rate,
    rate,
    stage,
    weight_decay,
)


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
    # one step an iteration, in the order of the values
    (MULTISTEP.replace("3", "6"), {5: 2.0, 6: 1.0, 7: 0.5, 8: 0.5}),
    (MULTISTEP + " stepvalue: 5", {4: 1.0, 5: 0.5, 6: 0.25, 7: 0.25}),
    ('lr_policy: "poly" base_lr: 4 power: 2 max_iter: 10', {0: 4.0, 5: 1.0, 10: 0.0, 15: 1.0}),
    ('lr_policy: "poly" base_lr: 4 max_iter: 10 power: 0.5', {0: 4.0, 5: 4 * 0.5**0.5, 10: 0.0}),
    (
        'lr_policy: "sigmoid" base_lr: 6 gamma: -0.5 stepsize: 4',
        {0: 6 / (1 + exp(-2)), 4: 3.0, 6: 6 / (1 + exp(1))},
    ),
    (
        'lr_policy: "cosine" base_lr: 4 max_iter: 10 min_lr: 0',
        {0: 4.0, 3: 2 + 2 * cos(0.3 * pi), 5: 2.0, 10: 0.0, 15: 0.0},
    ),
    (
        'lr_policy: "cosine" base_lr: 4 max_iter: 10 min_lr: 1',
        {0: 4.0, 3: 2.5 + 1.5 * cos(0.3 * pi), 5: 2.5, 10: 1.0, 11: 1.0},
    ),
    (
        'lr_policy: "multifixed" stagelr: 0.5 stageiter: 3 stagelr: 2 stageiter: 5',
        {0: 0.5, 3: 0.5, 4: 2.0, 5: 2.0, 6: 2.0, 100: 2.0},
    ),
    ('lr_policy: "plateau" base_lr: 0.25 gamma: 0.5 plateau_winsize: 3', {0: 0.25, 1000: 0.25}),
    # min_lr: the floor of any policy, and where poly ends
    (STEP + " min_lr: 0.02", {0: 0.5, 10: 0.05, 20: 0.02, 30: 0.02}),
    (
        'lr_policy: "poly" base_lr: 4 power: 1 max_iter: 10 min_lr: 1',
        {0: 4.0, 5: 2.5, 10: 1.0, 15: 1.0},
    ),
    ('lr_policy: "multifixed" stagelr: 2 stageiter: 5 min_lr: 3', {0: 3.0}),
    ('lr_policy: "fixed" base_lr: -1', {0: -1.0}),
    # warm-up: in place of the policy, which counts from 0 all the same
    (STEP + " warmup_iter: 5", {0: 0.0, 1: 0.1, 4: 0.4, 5: 0.5, 9: 0.5, 10: 0.05}),
    (
        STEP + " warmup_iter: 15 warmup_start_lr: 0.2 min_lr: 0.3",
        {0: 0.2, 5: 0.3, 14: 0.48, 15: 0.3},
    ),
    (
        'lr_policy: "poly" base_lr: 4 power: 1 max_iter: 10 rampup_interval: 4 rampup_lr: 2',
        {0: 2.0, 1: 2.125, 2: 2.5, 3: 3.125, 4: 2.4},
    ),
]


@pytest.mark.parametrize(("text", "wanted"), RATES)
def test_rate(text: str, wanted: dict[int, float]) -> None:
    got = {t: rate(config(text), t) for t in wanted}
    assert got == pytest.approx(wanted, rel=1e-6)  # the fields are float32


def test_every_policy_has_rates_here() -> None:
    assert {config(text).lr_policy for text, _ in RATES} == POLICIES.keys()


def test_each_drop_of_a_plateau_multiplies_by_gamma() -> None:
    p = config('lr_policy: "plateau" base_lr: 8 gamma: 0.5 min_lr: 3 plateau_winsize: 5')
    assert [rate(p, 100, drops) for drops in range(3)] == [8.0, 4.0, 3.0]


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
        ('lr_policy: "sine"', r"policy: sine \(known: fixed, step"),
        ('lr_policy: "cosine" max_iter: 9', "policy: cosine without min_lr.* Add min_lr: 0 for"),
        ('lr_policy: "stp"', 'Did you mean "step"'),
        ("base_lr: 1", r"policy: \(none\)"),
        ('lr_policy: "step"', "stepsize > 0, got 0"),
        ('lr_policy: "poly"', "poly needs max_iter > 0, got 0"),
        ('lr_policy: "cosine" min_lr: 0', "cosine needs max_iter > 0, got 0"),
        ('lr_policy: "multifixed"', "one stageiter for each stagelr, got 0 for 0"),
        ('lr_policy: "multifixed" stagelr: 1', "stagelr, got 0 for 1"),
        (
            'lr_policy: "multifixed" stagelr: 1 stagelr: 2 stageiter: 5 stageiter: 5',
            "stageiter must ascend, got 5, 5",
        ),
        ('lr_policy: "plateau" gamma: 0.1', "plateau needs plateau_winsize"),
        ('lr_policy: "plateau" gamma: 0.1 plateau_winsize: 0', "winsize must be > 0, got 0"),
        ('lr_policy: "plateau" plateau_winsize: 5', "plateau needs gamma"),
        ('lr_policy: "fixed" min_lr: -1', "min_lr must be >= 0, got -1"),
        ('lr_policy: "fixed" base_lr: 1 min_lr: 2', "min_lr must be <= base_lr, got 2 > 1"),
        ('lr_policy: "fixed" warmup_iter: -1', "warmup_iter must be >= 0, got -1"),
        ('lr_policy: "fixed" rampup_interval: -1', "rampup_interval must be >= 0, got -1"),
        ('lr_policy: "fixed" base_lr: 1 warmup_iter: 2 rampup_interval: 2', "not both"),
        ('lr_policy: "multifixed" stagelr: 1 stageiter: 2 warmup_iter: 2', "needs base_lr"),
        ('lr_policy: "fixed" warmup_start_lr: 2', "nothing without warmup_iter"),
        ('lr_policy: "fixed" rampup_lr: 2', "nothing without rampup_interval"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(SolverError, match=says):
        check_policy(config(text))


@pytest.mark.parametrize("text", [text for text, _ in RATES])
def test_what_is_taken(text: str) -> None:
    check_policy(config(text))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("momentum: 0.5", {0: 0.5, 7: 0.5}),
        ('momentum: 0.5 momentum_policy: "fixed" max_momentum: 0.75', {0: 0.5, 7: 0.5}),
        (
            'momentum: 0.5 momentum_policy: "poly" max_momentum: 0.75 max_iter: 10',
            {0: 0.5, 5: 0.625, 10: 0.75},
        ),
        (
            'momentum: 0.5 momentum_policy: "poly" max_momentum: 0.75 max_iter: 10'
            " momentum_power: 2",
            {0: 0.5, 5: 0.5625},
        ),
        ('momentum: 0.5 momentum_policy: "poly" max_iter: 2', {0: 0.5, 1: 0.745, 2: 0.99}),
        ('momentum_policy: "opt"', {0: (1 - 0.5 * 0.5) ** 2}),  # the rate is 0.25 here
        ('momentum_policy: "opt" max_momentum: 0.5', {0: 0.5}),
    ],
)
def test_momentum(text: str, wanted: dict[int, float]) -> None:
    for t, value in wanted.items():
        assert momentum(config(text), t, 0.25) == pytest.approx(value, rel=1e-7)  # floats


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("weight_decay: 0.5", {0: 0.5, 7: 0.5}),
        ('weight_decay: 0.5 weight_decay_policy: "poly" max_iter: 10', {0: 0, 5: 0.25, 10: 0.5}),
        (
            'weight_decay: 0.5 weight_decay_policy: "poly" weight_decay_power: 2 max_iter: 10',
            {0: 0, 5: 0.125},
        ),
        (
            'weight_decay: 0.5 max_weight_decay: 0.1 weight_decay_policy: "poly" max_iter: 10',
            {0: 0.5, 5: 0.3, 10: 0.1},
        ),
        (
            'weight_decay: 0.5 max_weight_decay: 0 weight_decay_policy: "poly" max_iter: 10'
            " weight_decay_power: 2",
            {0: 0.5, 5: 0.375, 10: 0},
        ),
    ],
)
def test_weight_decay(text: str, wanted: dict[int, float]) -> None:
    for t, value in wanted.items():
        assert weight_decay(config(text), t) == pytest.approx(value, rel=1e-7)  # floats


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('momentum_policy: "polly"', r"Unknown momentum_policy: polly \(known: fixed, poly, opt\)"),
        ('weight_decay_policy: "opt"', r"Unknown weight_decay_policy: opt \(known: fixed, poly\)"),
        ('momentum_policy: "poly"', "momentum_policy poly needs max_iter > 0, got 0"),
        ('weight_decay_policy: "poly"', "weight_decay_policy poly needs max_iter > 0, got 0"),
    ],
)
def test_what_other_policies_refuse(text: str, says: str) -> None:
    with pytest.raises(SolverError, match=says):
        check_other_policies(config(text))


@pytest.mark.parametrize(
    "text",
    [
        'lr_policy: "step" stepsize: 1',
        'lr_policy: "poly" max_iter: 1',
        'lr_policy: "cosine" max_iter: 1 min_lr: 0',
        'lr_policy: "plateau" gamma: 0.1 plateau_winsize: 1',
        'lr_policy: "fixed" base_lr: 1 min_lr: 1',
        'lr_policy: "multifixed" stagelr: 1 stagelr: 2 stageiter: 5 stageiter: 6',
    ],
)
def test_the_least_that_is_taken(text: str) -> None:
    check_policy(config(text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MULTISTEP, None),
        ('lr_policy: "multistep" base_lr: 1 gamma: 0.5 stepsize: 3', "multistep has no stepvalue"),
        ('lr_policy: "fixed"', "base_lr is missing"),
        ('lr_policy: "multifixed" stagelr: 1 stageiter: 1', None),
    ],
)
def test_odd_rates(text: str, says: str | None) -> None:
    found = odd_rate(config(text))
    assert found is None if says is None else says in (found or "")
