from __future__ import annotations

from math import isnan, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

OPTIONS: list[dict[str, Any]] = [
    {},
    {"normalize_by_num_entries": True},
    {"plateau": 0.5},
    {"l2_per_location": True},
    {"l2_per_location": True, "l2_prescale_by_channels": True, "epsilon": 0.25},
    {"l2_per_location": True, "plateau": 1.5, "normalize_by_num_entries": True},
]


def make(make_layer: LayerMaker, options: dict[str, Any], *shapes: tuple[int, ...]) -> Any:
    fields = " ".join(f"{name}: {str(value).lower()}" for name, value in options.items())
    return make_layer(f'type: "L1Loss" l1_loss_param {{ {fields} }}', *shapes)


def slow(d: Array, o: dict[str, Any]) -> float:
    n, channels, height, width = d.shape
    total, entries = 0.0, 0
    for b, row, column in np.ndindex(n, height, width):
        squared = 0.0
        for c in range(channels):
            value = d[b, c, row, column]
            if isnan(value):
                continue
            entries += 1
            squared += value**2 / (channels if o.get("l2_prescale_by_channels") else 1)
            if not o.get("l2_per_location") and abs(value) >= o.get("plateau", 0):
                total += abs(value)
        if o.get("l2_per_location"):
            if sqrt(squared) < o.get("plateau", 0):
                squared = 0
            total += sqrt(squared + o.get("epsilon", 0.01))
    return total / (entries / channels if o.get("normalize_by_num_entries") else n)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("count", [1, 2])
def test_values(
    make_layer: LayerMaker, run: Runner, spread: Spread, options: dict[str, Any], count: int
) -> None:
    a, b = spread(2, 3, 2, 2), spread(2, 3, 2, 2)[::-1].copy() * 1.5
    a[0, 1, 0, 1] = b[1, 2, 1, 1] = nan
    bottoms = [a, b][:count]
    layer = make(make_layer, options, *[a.shape] * count)
    want = slow(a - b if count > 1 else a, options)
    assert run(layer, *bottoms)[0] == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradients(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread, options: dict[str, Any]
) -> None:
    layer = make(make_layer, options, (2, 3, 2, 2), (2, 3, 2, 2))
    check_gradient(layer, spread(2, 3, 2, 2), spread(2, 3, 2, 2)[::-1].copy() * 1.5)


@pytest.mark.parametrize("per_location", [False, True])
def test_a_nan_takes_no_gradient(make_layer: LayerMaker, *, per_location: bool) -> None:
    options = {"l2_per_location": per_location, "epsilon": 0}
    a = torch.tensor([[[1.0], [nan]], [[nan], [nan]]], requires_grad=True)
    make(make_layer, options, (2, 2, 1), (2, 2, 1))(a, torch.zeros(2, 2, 1)).backward()
    assert a.grad is not None
    assert a.grad.flatten().tolist() == [0.5, 0, 0, 0]


def test_shapes(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="Inputs must have the same dimension"):
        make_layer('type: "L1Loss"', (2, 3), (2, 4))
