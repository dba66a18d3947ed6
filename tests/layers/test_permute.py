from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def permute(*order: int) -> str:
    fields = " ".join(f"order: {axis}" for axis in order)
    return f'type: "Permute" permute_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("order", "whole"),
    [
        ((0, 2, 3, 1), (0, 2, 3, 1)),
        ((2,), (2, 0, 1, 3)),
        ((), (0, 1, 2, 3)),
        ((3, 0), (3, 0, 1, 2)),
    ],
)
def test_axes_that_are_not_named_follow_in_their_order(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    order: tuple[int, ...],
    whole: tuple[int, ...],
) -> None:
    x = spread(2, 3, 4, 5)
    (y,) = run(make_layer(permute(*order), x.shape), x)
    np.testing.assert_array_equal(y, x.transpose(whole))


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread) -> None:
    x = spread(2, 3, 2)
    check_gradient(make_layer(permute(2, 0), x.shape), x)


@pytest.mark.parametrize("order", [(0, 0), (4,), (0, 9)])
def test_an_axis_that_is_not_there_or_comes_twice(
    make_layer: LayerMaker, order: tuple[int, ...]
) -> None:
    with pytest.raises(NetError, match="order"):
        make_layer(permute(*order), (2, 3, 4, 5))
