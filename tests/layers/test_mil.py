from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def probabilities(*shape: int) -> Array:
    return np.random.default_rng(2).uniform(0.1, 0.9, shape)


@pytest.mark.parametrize("kind", ["MAX", "NOR"])
def test_parts_of_images(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, kind: str
) -> None:
    x = probabilities(2, 3, 2, 2)
    layer = make_layer(f'type: "MIL" mil_param {{ type: {kind} }}', x.shape)
    wanted = x.max((2, 3)) if kind == "MAX" else 1 - (1 - x).prod((2, 3))
    np.testing.assert_allclose(run(layer, x)[0], wanted.reshape(2, 3, 1, 1), rtol=1e-12)
    check_gradient(layer, x)


def test_a_sure_part_and_several_maxima(make_layer: LayerMaker) -> None:
    x = torch.tensor([1.0, 0.5, 0.5]).reshape(1, 1, 1, 3).requires_grad_()
    layer = make_layer('type: "MIL" mil_param { type: NOR }', x.shape)
    torch.autograd.backward(layer(x).sum())
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 0, 0]  # the fork divides 0 by 0 for the first
    twice = torch.tensor([0.5, 0.25, 0.5]).reshape(1, 1, 1, 3).requires_grad_()
    torch.autograd.backward(make_layer('type: "MIL"', twice.shape)(twice).sum() * 2)
    assert twice.grad is not None
    assert twice.grad.flatten().tolist() == [2, 0, 2]


def test_rows_that_belong_together(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(6, 4)
    layer = make_layer('type: "MIL" mil_param { context_per_roi: 3 }', x.shape)
    wanted = np.stack([x[:3].max(0), x[3:].max(0)]).reshape(2, 4, 1, 1)
    np.testing.assert_array_equal(run(layer, x)[0], wanted)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "shape", "told"),
    [
        ("", (3,), r"takes probabilities \(N, C, ...\), got a bottom of shape \(3,\)"),
        ("context_per_roi: 2", (3, 4), "a multiple of context_per_roi 2, got 3"),
        ("context_per_roi: 2", (4, 4, 2, 1), r"takes rows \(N, C\), got a bottom of shape"),
        ("context_per_roi: 2 type: NOR", (4, 4), "type must be MAX, got NOR"),
    ],
)
def test_faults(make_layer: LayerMaker, fields: str, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(f'type: "MIL" mil_param {{ {fields} }}', shape)
