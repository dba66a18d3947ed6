from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.8])
def test_dropout_in_training(make_layer: LayerMaker, ratio: float) -> None:
    text = f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}'
    layer = make_layer(text, (100, 100), training=True)
    x = torch.full((100, 100), 3.0, requires_grad=True)
    y = layer(x)
    y.sum().backward()
    assert x.grad is not None
    kept = y.detach() != 0
    # 10000 draws: a standard deviation of at most 0.005.
    assert kept.double().mean().item() == pytest.approx(1 - ratio, abs=0.02)
    scale = 1 / (1 - ratio)
    # One multiplication in single precision.
    np.testing.assert_allclose(y.detach(), np.where(kept, 3 * scale, 0), rtol=1e-6)
    np.testing.assert_allclose(x.grad, np.where(kept, scale, 0), rtol=1e-6)


def test_dropout_follows_the_seed(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Dropout"', (50,), training=True)
    drawn = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        drawn.append(layer(torch.ones(50)).tolist())
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5])
def test_dropout_ratio_is_a_chance(make_layer: LayerMaker, ratio: float) -> None:
    with pytest.raises(NetError, match=r"dropout_ratio must be in \[0, 1\), got"):
        make_layer(f'type: "Dropout" dropout_param {{ dropout_ratio: {ratio} }}', (3,))
