from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from moka.errors import SolverError
from moka.schema import caffe_pb2, parse_text
from moka.solver.choose import rule_class
from moka.solver.learnable import Learnable
from moka.solver.update import (
    Clipped,
    apply_update,
    can_be_recorded,
    check_regularization,
    clip_elements,
    clip_gradients_by_norm,
    normalize,
)
from moka.types import Array

MULTS = [(1.0, 1.0), (2.0, 0.0), (1.0, 1.0), (0.0, 1.0)]  # (lr_mult, decay_mult)
SHAPES = [(3, 4), (4,), (2, 1, 3), (5,)]


def config(text: str) -> caffe_pb2.SolverParameter:
    return parse_text(text, caffe_pb2.SolverParameter)


def caffe_sgd(
    p: caffe_pb2.SolverParameter,
    rates: Sequence[float],
    weights: list[Array],
    gradients: Sequence[Sequence[Array]],
) -> tuple[list[Array], list[Array]]:
    """Caffe's SGDSolver::ApplyUpdate in double precision: weights and histories at the end."""
    weights = [w.astype(np.float64) for w in weights]
    history = [np.zeros_like(w) for w in weights]
    for rate, given in zip(rates, gradients, strict=True):
        grads = [g.astype(np.float64) for g in given]
        if p.clip_value >= 0:
            grads = [np.minimum(np.maximum(g, -p.clip_value), p.clip_value) for g in grads]
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        if 0 <= p.clip_gradients < norm:
            grads = [g * (p.clip_gradients / norm) for g in grads]
        for i, (lr_mult, decay_mult) in enumerate(MULTS):
            g = grads[i] / p.iter_size
            decay = p.weight_decay * decay_mult
            g = g + decay * (np.sign(weights[i]) if p.regularization_type == "L1" else weights[i])
            history[i] = p.momentum * history[i] + rate * lr_mult * g
            weights[i] = weights[i] - history[i]
    return weights, history


STEADY = [0.1] * 6
CHANGING = [0.1, 0.1, 0.01, 0.001, 0.05, 0.2]


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("", STEADY),
        ("", CHANGING),
        ("momentum: 0.9", STEADY),
        ("momentum: 0.9", CHANGING),
        ("momentum: 0.9", [0.1, 0.1, 0.0, 0.0, 0.1, 0.1]),  # the history goes on at rate 0
        ("momentum: 0.9", [0.0, 0.0, 0.1, 0.0, 0.1, 0.0]),
        ("momentum: 0.9 weight_decay: 0.05", CHANGING),
        ("weight_decay: 0.05", CHANGING),
        ('momentum: 0.9 weight_decay: 0.05 regularization_type: "L1"', CHANGING),
        ('weight_decay: 0.05 regularization_type: "L1"', CHANGING),
        ("momentum: 0.9 iter_size: 3 weight_decay: 0.05", CHANGING),
        ("momentum: 0.9 clip_gradients: 2 weight_decay: 0.05", CHANGING),
        ("momentum: 0.9 clip_gradients: 2 iter_size: 3", CHANGING),
        ("momentum: 0.9 clip_gradients: 1000", CHANGING),
        ("clip_gradients: 0 weight_decay: 0.05", CHANGING),
        ("momentum: 0.9 clip_value: 0.5 weight_decay: 0.05", CHANGING),
        ("momentum: 0.9 clip_value: 0.5 iter_size: 3", CHANGING),
        ("clip_value: 0.3 clip_gradients: 1", CHANGING),
        ("clip_value: 0 weight_decay: 0.05", CHANGING),
    ],
)
def test_updates_are_caffes(text: str, rates: list[float], device: torch.device) -> None:
    p = config(text)
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
    weights[0][0] = 0  # the sign of 0 is 0
    gradients = [[rng.standard_normal(s).astype(np.float32) for s in SHAPES] for _ in rates]
    params = [
        Learnable(nn.Parameter(torch.tensor(w, device=device)), *mults)
        for w, mults in zip(weights, MULTS, strict=True)
    ]
    rule = rule_class(p)(params, p)
    for t, (rate, grads) in enumerate(zip(rates, gradients, strict=True)):
        for param, grad in zip(params, grads, strict=True):
            param.parameter.grad = torch.tensor(grad, device=device)
        before = [param.parameter.detach().clone() for param in params]
        apply_update(rule, p, t, rate)
        for param, old, update in zip(params, before, rule.updates(), strict=True):
            assert torch.equal(param.parameter.detach(), old - update)
    wanted, histories = caffe_sgd(p, rates, weights, gradients)
    # Float32 against double precision, six steps.
    for param, history, w, h in zip(params, rule.history(), wanted, histories, strict=True):
        np.testing.assert_allclose(param.parameter.detach().cpu(), w, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(history.cpu(), h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["SGD", "Nesterov", "LARS"])
def test_momentum_and_decay_change_in_the_course_of_a_run(kind: str) -> None:
    p = config(
        f'type: "{kind}" momentum: 0.25 momentum_policy: "poly" max_momentum: 0.75 max_iter: 4'
        ' weight_decay: 0.5 weight_decay_policy: "poly" larc_eta: 0.5'
    )
    parameter = nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    rule = rule_class(p)([Learnable(parameter, 1.0, 1.0)], p)
    w, h = np.array([1.0, -2.0]), np.zeros(2)
    for t in range(4):
        gradient = np.array([0.5, t])
        parameter.grad = torch.tensor(gradient)
        apply_update(rule, p, t, 0.1)
        momentum, decay = 0.25 + 0.5 * t / 4, 0.5 * t / 4
        norms = np.linalg.norm(w), np.linalg.norm(gradient)
        trust = 0.5 * norms[0] / (norms[1] + decay * norms[0]) if kind == "LARS" else 1
        before, h = h, momentum * h + 0.1 * trust * (gradient + decay * w)
        w = w - ((1 + momentum) * h - momentum * before if kind == "Nesterov" else h)
    np.testing.assert_allclose(parameter.detach(), w, rtol=1e-6)  # options are single precision


def test_intels_local_rate_is_that_of_lars() -> None:
    values = []
    for text in ("local_lr_auto: true local_gw_ratio: 0.25", 'type: "LARS" larc_eta: 0.25'):
        p = config(text + " momentum: 0.5 weight_decay: 0.5")
        parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
        rule = rule_class(p)([Learnable(parameter, 1.0, 1.0)], p)
        for t in range(2):
            parameter.grad = torch.tensor([0.5, t])
            apply_update(rule, p, t, 0.1)
        values.append(parameter.detach())
    assert torch.equal(*values)
    assert values[0].tolist() != [1, -2]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("clip_weights: 0.5", [-0.5, 0.25, 0.5]),
        ("clip_weights: 0", [-4, 0.25, 3]),
        ("clamp_weights_lower: 0", [0, 0.25, 3]),
        ("clamp_weights_upper: 1", [-4, 0.25, 1]),
        ("clamp_weights_lower: -1 clamp_weights_upper: 0", [-1, 0, 0]),
        ("clamp_weights_lower: -1 clip_weights: 2", [-1, 0.25, 2]),
        ("", [-4, 0.25, 3]),
    ],
)
def test_bounds_of_parameters(text: str, wanted: list[float]) -> None:
    p = config(text)
    params = learnables([4.0, -0.25, -3.0])
    statistics = nn.Parameter(torch.tensor([9.0]))
    statistics.grad = torch.zeros(1)
    params.append(Learnable(statistics, 0.0, 1.0))
    apply_update(rule_class(p)(params, p), p, 0, 1.0)
    assert params[0].parameter.tolist() == wanted
    assert statistics.item() == 9


def test_a_decay_past_the_gradients() -> None:
    p = config('type: "Adam" momentum: 0.9 adamw_decay: 0.5')
    plain = config('type: "Adam" momentum: 0.9')
    values = []
    for text in (p, plain):
        parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
        parameter.grad = torch.tensor([0.5, 3.0])
        apply_update(rule_class(text)([Learnable(parameter, 2.0, 0.5)], text), text, 0, 0.125)
        values.append(parameter.detach())
    shrunk = 2 * 0.125 * 0.5 * 0.5 * torch.tensor([1.0, -2.0])
    torch.testing.assert_close(values[0], values[1] - shrunk)


def learnables(*grads: list[float]) -> list[Learnable]:
    params = []
    for grad in grads:
        parameter = nn.Parameter(torch.zeros(len(grad)))
        parameter.grad = torch.tensor(grad)
        params.append(Learnable(parameter, 1.0, 1.0))
    return params


@pytest.mark.parametrize(
    ("limit", "wanted"), [(-1.0, None), (5.0, None), (6.0, None), (2.5, Clipped(5.0, 2.5))]
)
def test_clip_looks_at_the_norm_of_all(limit: float, wanted: Clipped | None) -> None:
    params = learnables([3.0, 0.0], [4.0])
    assert clip_gradients_by_norm(params, limit) == wanted
    factor = 1.0 if wanted is None else 0.5
    assert [p.grad.tolist() for p in params] == [[3 * factor, 0.0], [4 * factor]]


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [(-1.0, [[3.0, -0.5], [-4.0]]), (1.0, [[1.0, -0.5], [-1.0]]), (0.0, [[0.0, 0.0], [0.0]])],
)
def test_clip_elements_looks_at_each(limit: float, wanted: list[list[float]]) -> None:
    params = learnables([3.0, -0.5], [-4.0])
    clip_elements(params, limit)
    assert [p.grad.tolist() for p in params] == wanted


def test_a_gradient_that_is_no_number_stays_one() -> None:
    params = learnables([float("nan")])
    clip_elements(params, 1.0)
    assert params[0].grad.isnan().all()


def test_normalize_divides_by_iter_size() -> None:
    params = learnables([3.0, 6.0])
    normalize(params, 1)
    assert params[0].grad.tolist() == [3.0, 6.0]
    normalize(params, 3)
    assert params[0].grad.tolist() == pytest.approx([1.0, 2.0])


def test_least_squares_reaches_the_closed_form() -> None:
    """One step of SGD on 1/(2n) |Xw - t|^2 + decay/2 |w|^2, repeated, ends in its minimum."""
    rng = np.random.default_rng(5)
    x, t = rng.standard_normal((20, 3)), rng.standard_normal(20)
    decay = 0.1
    wanted = np.linalg.solve(x.T @ x / 20 + decay * np.eye(3), x.T @ t / 20)
    parameter = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    params = [Learnable(parameter, 1.0, 1.0)]
    p = config(f"momentum: 0.5 weight_decay: {decay}")
    rule = rule_class(p)(params, p)
    for _ in range(200):
        parameter.grad = torch.from_numpy(x.T @ (x @ parameter.detach().numpy() - t) / 20)
        apply_update(rule, p, 0, 0.3)
    np.testing.assert_allclose(parameter.detach(), wanted, rtol=1e-6)  # weight_decay is float32


@pytest.mark.parametrize(
    ("check", "text", "says"),
    [
        (check_regularization, 'regularization_type: "L3"', "type: L3 .*L1, L2"),
        (
            check_regularization,
            "clamp_weights_lower: 1 clip_weights: 0.5",
            "clamp_weights_lower must be <= clamp_weights_upper, got 1 > 0.5",
        ),
    ],
)
def test_what_is_refused(check: Any, text: str, says: str) -> None:
    check(config(""))
    with pytest.raises(SolverError, match=says):
        check(config(text))


@pytest.mark.parametrize(
    ("text", "can"),
    [
        *((f'type: "{kind}"', True) for kind in
          ("SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam")),
        ('type: "AdamW"', False),
        ('type: "LARS"', False),
        ('momentum_policy: "poly"', False),
        ('weight_decay_policy: "poly"', False),
    ],
)  # fmt: skip
def test_which_updates_can_be_recorded(text: str, can: bool) -> None:
    p = config(text)
    assert can_be_recorded(rule_class(p)([], p), p) == can
