from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.loss.memory import MemoryLoss

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

TEXT = 'type: "MemoryLoss" loss_param { normalization: NONE }'


def test_the_function_gives_loss_and_gradient(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck
) -> None:
    layer = make_layer(TEXT, (2, 3), (2,))
    assert isinstance(layer, MemoryLoss)
    layer.function = lambda x, w: (x.square().sum(1) * w).mean()
    x, w = np.arange(6.0).reshape(2, 3), np.array([2.0, 1.0])
    np.testing.assert_allclose(run(layer, x, w)[0], (2 * 5 + 50) / 2)
    check_gradient(layer, x, w)


def test_without_a_function_it_builds_but_does_not_run(make_layer: LayerMaker) -> None:
    layer = make_layer(TEXT, (2, 3))
    assert layer.first_top_shapes == [()]
    with pytest.raises(NetError, match="set the layer's `function` first"):
        layer(torch.ones(2, 3))


@pytest.mark.parametrize(("made", "found"), [(torch.ones(2), r"\(2,\)|2"), (3.0, "float")])
def test_the_function_must_return_one_number(
    make_layer: LayerMaker, made: object, found: str
) -> None:
    layer = make_layer(TEXT, (2, 3))
    assert isinstance(layer, MemoryLoss)
    layer.function = lambda x: made  # type: ignore[assignment]
    with pytest.raises(NetError, match=f"tensor of one number, got ({found})"):
        layer(torch.ones(2, 3))
