from __future__ import annotations

from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape

OPTIONS: list[dict[str, Any]] = [
    {"p": 1, "q": 1},
    {"p": 2, "q": 0.5, "q_epsilon": 0.1, "normalize_by_num_entries": True},
    {"p": 1.5, "q": 0.4, "p_epsilon": 0.2, "l2_prescale_by_channels": True},
]


def make(make_layer: LayerMaker, options: dict[str, Any], *shapes: Shape) -> Any:
    fields = " ".join(f"{name}: {str(value).lower()}" for name, value in options.items())
    return make_layer(f'type: "LpqLoss" lpq_loss_param {{ {fields} }}', *shapes)


def slow(d: Array, o: dict[str, Any]) -> float:
    n, channels, height, width = d.shape
    total, entries = 0.0, 0
    for b, row, column in np.ndindex(n, height, width):
        inner = 0.0
        for c in range(channels):
            value = d[b, c, row, column]
            entries += not isnan(value)
            inner += ((0 if isnan(value) else abs(value)) + o.get("p_epsilon", 0)) ** o["p"]
        if o.get("l2_prescale_by_channels"):
            inner /= channels
        total += (inner + o.get("q_epsilon", 0.01)) ** o["q"]
    return total / (entries / channels if o.get("normalize_by_num_entries") else n)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    options: dict[str, Any],
) -> None:
    a, b = spread(2, 3, 2, 4), spread(2, 3, 2, 4)[::-1].copy() * 0.7
    layer = make(make_layer, options, a.shape, b.shape)
    check_gradient(layer, a, b)
    holes = a.copy()
    holes[0, 1, 0, 2] = holes[1, :, 1, 1] = nan
    (y,) = run(layer, holes, b)
    assert float(y) == pytest.approx(slow(holes - b, options), rel=1e-5)
    one = make(make_layer, options, a.shape)
    (y,) = run(one, holes - b)
    assert float(y) == pytest.approx(slow(holes - b, options), rel=1e-5)


def test_unknown_differences_take_no_gradient(make_layer: LayerMaker) -> None:
    x = torch.tensor([[1.0, nan, -2.0]], requires_grad=True)
    make(make_layer, {"p": 0.5, "q": 2}, (1, 3))(x).backward()
    assert x.grad is not None
    assert x.grad[0, 1] == 0
    assert x.grad.isfinite().all()
    assert x.grad[0, 0] > 0 > x.grad[0, 2]


def test_exponents_change_in_training(make_layer: LayerMaker) -> None:
    text = (
        'type: "LpqLoss" lpq_loss_param { p: [2, 1, 3] q: [1, 2, 1] q_epsilon: 0'
        " pq_episode_starts_at_iter: [0, 2, 3] }"
    )
    layer = make_layer(text, (1, 2))
    x = torch.tensor([[1.0, 2.0]])
    assert [float(layer(x)) for _ in range(5)] == [5, 5, 9, 9, 9]
    layer.load_run_state([torch.tensor([2])])
    assert float(layer(x + 1)) == 25


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("p: 1", "p and q need a value for each of pq_episode_starts_at_iter, got 1, 0 and 0"),
        ("p: [1, 2] q: [1, 2]", "got 2, 2 and 0"),
        ("p: [1, 2] q: [1, 2] pq_episode_starts_at_iter: [0, 0]", r"rise from 0, got \(0, 0\)"),
        ("p: 1 q: 1 pq_episode_starts_at_iter: 1", r"rise from 0, got \(1,\)"),
    ],
)
def test_bad_options(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "LpqLoss" lpq_loss_param {{ {fields} }}', (2, 3))


def test_bad_shapes(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="Inputs must have the same dimension"):
        make(make_layer, OPTIONS[0], (2, 3), (2, 4))
