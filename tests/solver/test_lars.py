"""larc_turbo; the other rates of LARS are tested beside the other rules (test_rules.py)."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from moka.schema import parse_text
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.choose import rule_class
from moka.solver.lars import Lars
from moka.solver.learnable import Learnable

TEXT = "larc: true larc_turbo: true larc_eta: 0.1 momentum: 0.9"
MULTS = ((1.0, 1.0), (2.0, 0.0), (1.0, 1.0))


def make() -> tuple[Lars, list[Learnable]]:
    rng = np.random.default_rng(0)
    params = [
        Learnable(nn.Parameter(torch.tensor(rng.normal(size=n), dtype=torch.float32)), *mults)
        for n, mults in zip((4, 3, 5), MULTS, strict=True)
    ]
    config = parse_text(TEXT, SolverParameter)
    rule = rule_class(config)(params, config)
    assert isinstance(rule, Lars)
    return rule, params


def gradients(t: int) -> list[np.ndarray]:
    rng = np.random.default_rng(t)
    return [rng.normal(size=n) + 1 for n in (4, 3, 5)]


def step(rule: Lars, params: list[Learnable], t: int) -> None:
    for param, grad in zip(params, gradients(t), strict=True):
        param.parameter.grad = torch.tensor(grad, dtype=torch.float32)
    rule.apply(t, 0.5, 0.01)


def test_the_formula() -> None:
    rule, params = make()
    w = [p.parameter.detach().double().numpy() for p in params]
    h = [np.zeros_like(each) for each in w]
    c = [0.0, 0.0, 0.0]
    for t in range(6):
        for i, g in enumerate(gradients(t)):
            lr_mult, decay_mult = MULTS[i]
            decay = 0.01 * decay_mult
            norm = np.linalg.norm
            trust = 0.1 * norm(w[i]) / (norm(g) + decay * norm(w[i]))
            if t > 1:
                c[i] = 0.95 * c[i] + 0.05 * g @ h[i] / (norm(g) * norm(h[i]))
                trust *= 1 - 0.9 * c[i]
            h[i] = 0.9 * h[i] + 0.5 * lr_mult * trust * (g + decay * w[i])
            w[i] = w[i] - h[i]
        step(rule, params, t)
    assert min(c) > 0.05
    for param, want in zip(params, w, strict=True):
        np.testing.assert_allclose(param.parameter.detach(), want, rtol=1e-5, atol=1e-6)


def test_it_goes_on_from_a_state() -> None:
    (one, params), (two, others) = make(), make()
    for t in range(4):
        step(one, params, t)
    two.load_state(one.state())
    for param, other in zip(params, others, strict=True):
        other.parameter.data.copy_(param.parameter.detach())
    step(one, params, 4)
    step(two, others, 4)
    for param, other in zip(params, others, strict=True):
        assert torch.equal(param.parameter, other.parameter)


def test_no_parameters() -> None:
    config = parse_text(TEXT, SolverParameter)
    rule = rule_class(config)([], config)
    rule.apply(5, 0.1, 0.0)
    rule.load_state(rule.state())
