from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize("norm", ["", "norm: L1", "norm: L2"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_hinge(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    norm: str,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "HingeLoss" hinge_loss_param {{ {norm} }}', shape, (3,))
    x, labels = spread(*shape) * 3 + 0.01, np.array([2, 0, 3])
    (loss,) = run(layer, x, labels)
    total = 0.0
    for n, c in product(range(3), range(4)):
        margin = max(0.0, 1 - (1 if c == labels[n] else -1) * x.reshape(3, 4)[n, c])
        total += margin**2 if "L2" in norm else margin
    assert loss == pytest.approx(total / 3, rel=1e-12)  # double precision
    check_gradient(layer, x, labels)


def test_hinge_at_its_kink_has_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "HingeLoss"', (1, 2), (1,))
    x = torch.tensor([[1.0, -1.0]], requires_grad=True)
    loss = layer(x, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "HingeLoss"', [(2, 3), (1,)], "should have the same first dimension: 2 items"),
        ('type: "HingeLoss"', [(2, 3), (2, 2)], r"labels of shape 2 2 \(4\)"),
        ('type: "HingeLoss"', [(), ()], "at least 1 axis"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)
