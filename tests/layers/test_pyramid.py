from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.layers.test_pooling import pool

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize("height", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 2, 8, 8), (1, 3, 7, 6), (1, 1, 4, 11)])
def test_pyramid(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    method: str,
    height: int,
    shape: Shape,
) -> None:
    text = f'type: "SPP" spp_param {{ pool: {method} pyramid_height: {height} }}'
    layer = make_layer(text, shape)
    x = np.abs(spread(*shape)) if method == "STOCHASTIC" else spread(*shape)
    (y,) = run(layer, x)
    levels = []
    for level in range(height):
        bins = 2**level
        kernel = (ceil(shape[2] / bins), ceil(shape[3] / bins))
        pad = tuple((k * bins - n + 1) // 2 for k, n in zip(kernel, shape[2:], strict=True))
        levels.append(pool(x, method, kernel, kernel, (pad[0], pad[1]), True)[0])
    if height == 1:
        wanted = levels[0]
    else:
        wanted = np.concatenate([p.reshape(shape[0], -1) for p in levels], axis=1)
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # double precision
    check_gradient(layer, x)


def test_pyramid_has_the_same_length_for_any_image(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SPP" spp_param { pyramid_height: 3 }', (1, 2, 8, 8))
    assert layer.top_shapes((5, 2, 16, 12)) == [(5, 2 * (1 + 4 + 16))]


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("", (1, 1, 4, 4), "pyramid_height is missing"),
        ("pyramid_height: 0", (1, 1, 4, 4), "pyramid_height must be > 0, got 0"),
        ("pyramid_height: 2", (1, 4, 4), r"pools images \(N, C, H, W\), got a bottom of shape"),
        ("pyramid_height: 1", (1, 0, 4, 4), "only the batch may be empty"),
        ("pyramid_height: 3", (1, 1, 5, 5), "an image of 5 x 5 is too small for 3 levels"),
    ],
)
def test_pyramid_refuses(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "SPP" spp_param {{ {fields} }}', shape)
