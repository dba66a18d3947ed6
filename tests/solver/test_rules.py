"""Every solver type against its formula in double precision, written out step by step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from moka.errors import SolverError
from moka.schema import blobproto, caffe_pb2, parse_text
from moka.solver.choose import RULES, rule_class
from moka.solver.learnable import Learnable
from moka.types import Array

# update(p, t, r, g, histories): the histories are changed, what is subtracted is returned.
Formula = Callable[[caffe_pb2.SolverParameter, int, float, Array, list[Array]], Array]


def sgd(p: caffe_pb2.SolverParameter, t: int, r: float, g: Array, h: list[Array]) -> Array:
    h[0] = p.momentum * h[0] + r * g
    return h[0]


def nesterov(p: caffe_pb2.SolverParameter, t: int, r: float, g: Array, h: list[Array]) -> Array:
    old = h[0]
    h[0] = p.momentum * old + r * g
    return (1 + p.momentum) * h[0] - p.momentum * old


def ada_grad(p: caffe_pb2.SolverParameter, t: int, r: float, g: Array, h: list[Array]) -> Array:
    h[0] = h[0] + g**2
    return r * g / (np.sqrt(h[0]) + p.delta)


def rms_prop(p: caffe_pb2.SolverParameter, t: int, r: float, g: Array, h: list[Array]) -> Array:
    h[0] = p.rms_decay * h[0] + (1 - p.rms_decay) * g**2
    return r * g / (np.sqrt(h[0]) + p.delta)


def ada_delta(p: caffe_pb2.SolverParameter, t: int, r: float, g: Array, h: list[Array]) -> Array:
    h[0] = p.momentum * h[0] + (1 - p.momentum) * g**2
    d = g * np.sqrt((h[1] + p.delta) / (h[0] + p.delta))
    h[1] = p.momentum * h[1] + (1 - p.momentum) * d**2
    return r * d


def adam(p: caffe_pb2.SolverParameter, t: int, r: float, g: Array, h: list[Array]) -> Array:
    h[0] = p.momentum * h[0] + (1 - p.momentum) * g
    h[1] = p.momentum2 * h[1] + (1 - p.momentum2) * g**2
    correction = np.sqrt(1 - p.momentum2 ** (t + 1)) / (1 - p.momentum ** (t + 1))
    return r * correction * h[0] / (np.sqrt(h[1]) + p.delta)


def larc_factor(
    p: caffe_pb2.SolverParameter, rate: float, w: Array, g: Array, decay: float
) -> float:
    """What the rate is multiplied by; g without decay."""
    if p.type != "LARS" and not p.larc:
        return 1.0
    w_norm, g_norm = np.sqrt((w**2).sum()), np.sqrt((g**2).sum())
    if not w_norm or not g_norm:
        return 1.0
    trust = float(p.larc_eta * w_norm / (g_norm + decay * w_norm))
    if p.larc_policy == "clip":
        return min(rate, trust) / rate if rate else 0.0
    return trust


CASES: list[tuple[str, Formula]] = [
    ('type: "SGD"', sgd),
    ('type: "SGD" momentum: 0.9', sgd),
    ('type: "Nesterov"', nesterov),
    ('type: "Nesterov" momentum: 0.9', nesterov),
    ('type: "AdaGrad"', ada_grad),
    ('type: "AdaGrad" delta: 0.01', ada_grad),
    ('type: "RMSProp" rms_decay: 0.9', rms_prop),
    ('type: "RMSProp" rms_decay: 0 delta: 0.1', rms_prop),
    ('type: "AdaDelta" momentum: 0.95 delta: 1e-6', ada_delta),
    ('type: "AdaDelta" momentum: 0.5 delta: 0.01', ada_delta),
    ('type: "Adam" momentum: 0.9', adam),
    ('type: "Adam" momentum: 0.8 momentum2: 0.9 delta: 0.01', adam),
    ('type: "Adam" momentum: 0 momentum2: 0', adam),
    ('type: "AdamW" momentum: 0.9', adam),
    ('type: "AdamW" momentum: 0.8 momentum2: 0.9 delta: 0.01', adam),
    ('type: "LARS" momentum: 0.9 larc_eta: 0.1', sgd),
    ('type: "LARS"', sgd),
    ('type: "SGD" momentum: 0.9 larc: true larc_eta: 0.5', sgd),
    ('type: "SGD" momentum: 0.9 larc: true larc_policy: "clip" larc_eta: 0.05', sgd),
    ('type: "LARS" larc_policy: "clip" larc_eta: 0.05', sgd),
]
MULTS = [(1.0, 1.0), (2.0, 0.0), (1.0, 1.0), (0.0, 1.0)]  # (lr_mult, decay_mult)
SHAPES = [(3, 4), (4,), (2, 1, 3), (5,)]
RATES = [0.1, 0.1, 0.01, 0.001, 0.0, 0.2]
DECAY = 0.05


def test_every_type_has_a_case() -> None:
    types = {parse_text(text, caffe_pb2.SolverParameter).type for text, _ in CASES}
    assert types == set(RULES)


@pytest.mark.parametrize("leaves_updates", [True, False])
@pytest.mark.parametrize("first", [0, 7])  # Adam looks at the iteration
@pytest.mark.parametrize(("text", "formula"), CASES)
def test_updates_are_the_formulas(
    text: str, formula: Formula, first: int, leaves_updates: bool, device: torch.device
) -> None:
    p = parse_text(text, caffe_pb2.SolverParameter)
    rng = np.random.default_rng(4)
    weights = [rng.standard_normal(s).astype(np.float32) for s in SHAPES]
    weights[2][:] = 0  # LARS has no ratio of norms for it at first
    params = [
        Learnable(nn.Parameter(torch.tensor(w, device=device)), *mults)
        for w, mults in zip(weights, MULTS, strict=True)
    ]
    rule = rule_class(p)(params, p)
    rule.leaves_updates = leaves_updates
    wanted = [w.astype(np.float64) for w in weights]
    histories = [[np.zeros(s) for _ in range(rule.histories)] for s in SHAPES]
    for t, rate in enumerate(RATES, start=first):
        for i, (param, (lr_mult, decay_mult)) in enumerate(zip(params, MULTS, strict=True)):
            grad = rng.standard_normal(SHAPES[i]).astype(np.float32)
            if t == first + 2 and "lar" in text.lower():
                grad[:] = 0  # nor here
            param.parameter.grad = torch.tensor(grad, device=device)
            w, decay = wanted[i], DECAY * decay_mult
            r = rate * larc_factor(p, rate, w, grad, decay) * lr_mult
            if p.type == "AdamW":
                wanted[i] = w - r * decay * w - formula(p, t, r, grad, histories[i])
            else:
                wanted[i] = w - formula(p, t, r, grad + decay * w, histories[i])
        before = [param.parameter.detach().clone() for param in params]
        rule.apply(t, rate, DECAY)
        updates = rule.updates() if leaves_updates else [None] * len(params)
        for param, old, update in zip(params, before, updates, strict=True):
            if update is None:
                continue
            np.testing.assert_allclose(  # within the rounding of the weights
                (old - param.parameter.detach()).cpu(), update.cpu(), rtol=1e-4, atol=1e-6
            )
    # Float32 against double precision, six steps.
    for param, w in zip(params, wanted, strict=True):
        np.testing.assert_allclose(param.parameter.detach().cpu(), w, rtol=1e-5, atol=2e-6)
    in_order = [h[k] for k in range(rule.histories) for h in histories]
    for history, h in zip(rule.history(), in_order, strict=True):
        np.testing.assert_allclose(history.cpu(), h, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('type: "SDG"', r"type: SDG \(known: SGD, .*Did you mean \"SGD\""),
        ('type: "AdaGrad" momentum: 0.9', "Momentum cannot be used with AdaGrad"),
        ('type: "RMSProp" momentum: 0.9', "Momentum cannot be used with RMSProp"),
        ('type: "Adam" momentum: 0.9 momentum2: 100', "momentum2 should lie .* got 100: Adam"),
        ('type: "AdamW" momentum: 1', "momentum should lie between 0 and 1, .*got 1: AdamW"),
        ('type: "RMSProp" rms_decay: 1', "rms_decay should lie between 0 and 1, .*got 1"),
        ('type: "RMSProp" rms_decay: -0.1', "rms_decay .* got -0.1"),
        ('type: "AdamW" regularization_type: "L1"', "L1 cannot be used with AdamW"),
        ('type: "LARS" larc_policy: "clamp"', r"larc_policy: clamp \(known: scale, clip"),
        ('larc: true larc_policy: "clamp"', "larc_policy: clamp"),
        ("local_lr_auto: true local_gw_ratio: 0", "local_gw_ratio must be > 0, got 0"),
        ('local_lr_auto: true larc_policy: "clip"', "local_lr_auto has no larc_policy"),
        ('type: "Adam" local_lr_auto: true', "local_lr_auto works with type SGD, not with Adam"),
        ('type: "LARS" larc_eta: 0', "larc_eta must be > 0, got 0"),
        (
            'type: "Adam" momentum_policy: "opt"',
            "momentum_policy opt works with the types SGD, LARS, Nesterov, not with Adam",
        ),
        ('type: "Adam" larc: true', "larc works with type SGD, not with Adam"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(SolverError, match=says):
        rule_class(parse_text(text, caffe_pb2.SolverParameter))


def test_histories_are_its_state() -> None:
    params = [Learnable(nn.Parameter(torch.zeros(shape)), 1, 1) for shape in ((2, 3), (2,))]
    rule, other = (rule_class(config)(params, config) for config in [solver("Adam")] * 2)
    for k, tensor in enumerate(rule.history()):
        tensor.fill_(k + 1)
    other.load_state(rule.state())
    assert [set(t.flatten().tolist()) for t in other.history()] == [{1}, {2}, {3}, {4}]


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(2, 3)], "the file has 1, the solver 2"),
        ([(2, 3), (3,)], r"history 1 has shape \(3,\), the solver's has \(2,\)"),
    ],
)
def test_histories_that_do_not_fit(shapes: list[tuple[int, ...]], says: str) -> None:
    config = solver("SGD")
    params = [Learnable(nn.Parameter(torch.zeros(shape)), 1, 1) for shape in ((2, 3), (2,))]
    rule = rule_class(config)(params, config)
    blobs = (blobproto.from_array(np.ones(shape, np.float32)) for shape in shapes)
    with pytest.raises(SolverError, match=says) as error:
        rule.load_state(caffe_pb2.SolverState(history=blobs))
    if len(shapes) != len(params):
        assert "belongs to another net or solver type" in str(error.value)
    assert not rule.history()[0].any()  # nothing is half restored


def test_a_state_of_another_type() -> None:
    config = solver("SGD")
    rule = rule_class(config)([], config)
    rule.check_type(caffe_pb2.SolverState())  # BVLC's do not say
    adam = rule_class(solver("Adam"))([], solver("Adam"))
    with pytest.raises(SolverError, match="solver of type Adam, not of SGD"):
        rule.check_type(adam.state())


def solver(type: str) -> caffe_pb2.SolverParameter:
    return caffe_pb2.SolverParameter(type=type)


@pytest.mark.parametrize(
    "text",
    ['type: "Nesterov" momentum: 0.9', 'type: "AdaGrad"', 'type: "RMSProp"', 'type: "AdaDelta"'],
)
def test_gradients_of_another_layout(text: str) -> None:
    """Kernels run over numbers as they lie."""
    p = parse_text(text, caffe_pb2.SolverParameter)
    torch.manual_seed(0)
    w, g = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        param = nn.Parameter(w.clone())
        param.grad = g.clone(memory_format=layout)
        rule = rule_class(p)([Learnable(param, 1.0, 1.0)], p)
        rule.apply(0, 0.1, DECAY)
        found.append((param.detach(), *rule.updates()))
    torch.testing.assert_close(found[0], found[1])
