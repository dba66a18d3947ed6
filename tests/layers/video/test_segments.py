from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


@pytest.mark.parametrize("kind", ["Gather", "Scatter"])
def test_bottoms_pass(make_layer: LayerMaker, run: Runner, kind: str) -> None:
    layer = make_layer(f'type: "{kind}" top: "a" top: "b"', (2, 3), (4,))
    a, b = np.ones((2, 3)), np.arange(4.0)
    for have, want in zip(run(layer, a, b), (a, b), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("operation", ["SUM", "MEAN"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_level_reduces_the_axis(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    operation: str,
    axis: int,
) -> None:
    layer = make_layer(
        'type: "BatchReduction" batch_reduction_param { level: 1'
        f" reduction_param {{ operation: {operation} axis: {axis} }} }}",
        (3, 4, 5),
    )
    x = spread(3, 4, 5)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, x.sum(axis) if operation == "SUM" else x.mean(axis))
    check_gradient(layer, x)


def test_levels_are_a_pyramid(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    layer = make_layer(
        'type: "BatchReduction" batch_reduction_param { level: 1 level: 2'
        " reduction_param { operation: MEAN axis: 1 } }",
        (2, 5, 3),
    )
    x = spread(2, 5, 3)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, np.stack([x[:, 0], x[:, 1:].mean(1)], 1))


def test_the_mean_of_the_largest(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    layer = make_layer(
        'type: "BatchReduction" batch_reduction_param {'
        " reduction_param { operation: TOPK axis: 1 k: 2 } }",
        (2, 5, 3),
    )
    x = spread(2, 5, 3)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, np.sort(x, 1)[:, -2:].mean(1))
    check_gradient(layer, x)


def test_positions_of_segments(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    layer = make_layer(
        'type: "BatchReduction" batch_reduction_param { pos: true'
        " reduction_param { operation: MEAN axis: 1 } }",
        (2, 3, 3, 4),
    )
    x = spread(2, 3, 3, 4)
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, sum(x[:, t, t] for t in range(3)) / 3)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("level: 2 reduction_param { axis: 1 }", r"levels \(2,\) need 4 positions along axis 1"),
        ("reduction_param { operation: ASUM }", "operation must be SUM, MEAN or TOPK, got ASUM"),
        ("reduction_param { operation: TOPK axis: 1 k: 6 }", "between 1 and the 5 positions"),
        ("level: 1 level: 2 pos: true reduction_param { axis: 1 }", "pos takes one level, got 2"),
        ("pos: true reduction_param { axis: 1 }", "axis 2 must be as long as axis 1"),
        ("reduction_param { axis: 4 }", "axis 4 does not exist"),
        ("level: 0", "level must be > 0, got 0"),
    ],
)
def test_bad_input(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "BatchReduction" batch_reduction_param {{ {fields} }}', (2, 5, 3))
