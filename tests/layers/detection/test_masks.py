from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread


def resize(height: int, width: int) -> str:
    return (
        f'type: "MaskResize" mask_resize_param {{ output_height: {height} output_width: {width} }}'
    )


def slow_resize(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """One mask (H, W), pixel by pixel."""
    y = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            at = i * mask.shape[0] / height, j * mask.shape[1] / width
            if at[0] > mask.shape[0] - 0.5 or at[1] > mask.shape[1] - 0.5:
                continue
            (a, b), (h, w) = (min(at[k], mask.shape[k] - 1) for k in (0, 1)), mask.shape
            top, left = int(a), int(b)
            down, right = min(top + 1, h - 1), min(left + 1, w - 1)
            y[i, j] = (
                (1 - a + top) * (1 - b + left) * mask[top, left]
                + (1 - a + top) * (b - left) * mask[top, right]
                + (a - top) * (1 - b + left) * mask[down, left]
                + (a - top) * (b - left) * mask[down, right]
            )
    return y


@pytest.mark.parametrize(("height", "width"), [(14, 14), (4, 3), (5, 6), (1, 1), (20, 7)])
def test_resize(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    height: int,
    width: int,
) -> None:
    x = spread(2, 2, 5, 6)
    layer = make_layer(resize(height, width), x.shape)
    want = [[slow_resize(mask, height, width) for mask in images] for images in x]
    np.testing.assert_allclose(run(layer, x)[0], want, atol=1e-12)
    check_gradient(layer, x)


def test_a_mask_that_more_than_doubles_ends_in_zeros(make_layer: LayerMaker, run: Runner) -> None:
    y = run(make_layer(resize(2, 8), (1, 1, 1, 2)), np.ones((1, 1, 1, 2)))[0]
    assert y[0, 0].tolist() == [[1, 1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1, 1, 0]]


def test_pooling(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x, mask = spread(2, 3, 2, 4), spread(2, 1, 2, 4)
    layer = make_layer('type: "MaskPooling"', x.shape, mask.shape)
    have = run(layer, x, mask)[0]
    for n, c, i, j in np.ndindex(*x.shape):
        assert have[n, c, i, j] == pytest.approx(x[n, c, i, j] * mask[n, 0, i, j])
    check_gradient(layer, x, mask)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="output_width must be > 0, got 0"):
        make_layer('type: "MaskResize" mask_resize_param { output_height: 2 }', (1, 1, 2, 2))
    with pytest.raises(NetError, match="takes images"):
        make_layer(resize(2, 2), (1, 4))
    with pytest.raises(NetError, match=r"masks must be \(2, 1, 2, 4\), got shape \(2, 1, 4, 2\)"):
        make_layer('type: "MaskPooling"', (2, 3, 2, 4), (2, 1, 4, 2))
