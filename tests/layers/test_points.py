from __future__ import annotations

from math import exp, floor, pi
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

HOTSPOT = 'type: "Hotspot" hotspot_param'
SIZE = "data_height: 20 data_width: 30"
REGION = 'type: "SubRegion" sub_region_param'
POINTS = np.array([[3.0, -2.5, -15.5, 9.2], [40.0, 1.0, 0.0, 0.0]])


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_hotspot(make_layer: LayerMaker, run: Runner, *, removed: bool, second: bool) -> None:
    fields = f"{SIZE} gaussian_std: 0.8 mean_removed: {str(removed).lower()}"
    size = "" if second else "output_height: 5 output_width: 6"
    more = [np.ones((2, 3, 5, 6))] if second else []
    layer = make_layer(f"{HOTSPOT} {{ {fields} {size} }}", (2, 4), *(m.shape for m in more))
    have = run(layer, POINTS, *more)[0]
    assert have.shape == (2, 2, 5, 6)
    some = 0
    for n, p, i, j in np.ndindex(have.shape):
        x = (POINTS[n, 2 * p] / 30 + 0.5 * removed) * 6
        y = (POINTS[n, 2 * p + 1] / 20 + 0.5 * removed) * 5
        want = exp(-((x - j) ** 2 + (y - i) ** 2) / (2 * 0.64)) / (2 * pi * 0.64)
        assert have[n, p, i, j] == pytest.approx(want if want > 1e-4 else 0)
        some += 1e-4 < want < 2e-3
    assert some


@pytest.mark.parametrize("as_dim", [0, 1])
def test_sub_region(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    as_dim: int,
) -> None:
    x, true = spread(2, 3, 5, 6), POINTS + 1.5
    fields = f"region_height: 3 region_width: 4 {SIZE} as_dim: {as_dim}"
    tops = 'top: "a" top: "b" top: "c"'
    layer = make_layer(f"{REGION} {{ {fields} }} {tops}", x.shape, (2, 4), (2, 4))
    windows, offsets, middles = run(layer, x, POINTS, true)
    assert windows.shape == ((4, 3, 3, 4) if as_dim == 0 else (2, 6, 3, 4))
    for n in range(2):
        for p in range(2):
            left = floor((POINTS[n, 2 * p] / 30 + 0.5) * 6 - 2)
            up = floor((POINTS[n, 2 * p + 1] / 20 + 0.5) * 5 - 1)
            middle = np.array([(left + 2 + 0.5) / 6 * 30, (up + 1.5 + 0.5) / 5 * 20])
            here = slice(2 * p, 2 * p + 2)
            np.testing.assert_allclose(middles[n, here], middle)
            np.testing.assert_allclose(offsets[n, here], true[n, here] + [15, 10] - middle)
            for c, h, w in np.ndindex(3, 3, 4):
                row, column = up + h, left + w
                inside = 0 <= row < 5 and 0 <= column < 6
                want = x[n, c, row, column] if inside else 0
                place = (2 * p + n, c) if as_dim == 0 else (n, 3 * p + c)
                assert windows[(*place, h, w)] == want
    check_gradient(make_layer(f"{REGION} {{ {fields} }}", x.shape, (2, 4)), x, POINTS)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="data_width must be > 0"):
        make_layer(f"{HOTSPOT} {{ data_height: 2 }}", (2, 4))
    with pytest.raises(NetError, match="needs output_height and output_width"):
        make_layer(f"{HOTSPOT} {{ {SIZE} }}", (2, 4))
    with pytest.raises(NetError, match="x and y of each, got shape 2 3"):
        make_layer(f"{HOTSPOT} {{ {SIZE} output_height: 2 output_width: 2 }}", (2, 3))
    fields = f"region_height: 3 region_width: 4 {SIZE}"
    with pytest.raises(NetError, match="for each of 2 items, got shape 3 4"):
        make_layer(f"{REGION} {{ {fields} }}", (2, 3, 5, 6), (3, 4))
    with pytest.raises(NetError, match="only the batch may be empty"):
        make_layer(f"{REGION} {{ {fields} }}", (2, 3, 5, 0), (2, 4))
    with pytest.raises(NetError, match="region_width is missing"):
        make_layer(f"{REGION} {{ region_height: 3 {SIZE} }}", (2, 3, 5, 6), (2, 4))
    with pytest.raises(NetError, match="three tops need 2 true points"):
        make_layer(f'{REGION} {{ {fields} }} top: "a" top: "b" top: "c"', (2, 3, 5, 6), (2, 4))
