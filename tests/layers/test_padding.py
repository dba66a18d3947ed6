from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

LAYER = 'type: "Padding" padding_param { pad_beg: %d pad_end: %d }'


@pytest.mark.parametrize(("beg", "end"), [(1, 2), (-1, 1), (2, -2), (-1, -2), (0, 0)])
def test_margins(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    beg: int,
    end: int,
) -> None:
    x = spread(2, 3, 5, 4)
    layer = make_layer(LAYER % (beg, end), x.shape)
    (top,) = run(layer, x)
    assert top.shape == (2, 3, 5 + beg + end, 4 + beg + end)
    for n, c, i, j in np.ndindex(*top.shape):
        inside = 0 <= i - beg < 5 and 0 <= j - beg < 4
        assert top[n, c, i, j] == (x[n, c, i - beg, j - beg] if inside else 0)
    check_gradient(layer, x)


def test_refusals(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="pad_beg -3 and pad_end -2 leave nothing of images"):
        make_layer(LAYER % (-3, -2), (1, 1, 5, 9))
    with pytest.raises(NetError, match="leave nothing"):  # not even with new pixels behind
        make_layer(LAYER % (-6, 9), (1, 1, 5, 9))
    with pytest.raises(NetError, match=r"takes images \(N, C, H, W\)"):
        make_layer(LAYER % (1, 1), (2, 3))


@pytest.mark.parametrize(
    ("shape", "paddings"),
    [((3,), (1, 2)), ((2, 3), (0, 0, 2, 1)), ((2, 1, 3, 2), (1, 0, 0, 2, 3, 1, 0, 0))],
)
@pytest.mark.parametrize("value", [0.0, -2.5])
def test_any_axes(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shape: tuple[int, ...],
    paddings: tuple[int, ...],
    value: float,
) -> None:
    x = spread(*shape)
    fields = " ".join(f"paddings: {n}" for n in paddings) + f" constant_values: {value}"
    layer = make_layer(f'type: "Pad" pad_param {{ {fields} }}', shape)
    (top,) = run(layer, x)
    wanted = np.full([n + sum(paddings[2 * k : 2 * k + 2]) for k, n in enumerate(shape)], value)
    wanted[tuple(slice(paddings[2 * k], paddings[2 * k] + n) for k, n in enumerate(shape))] = x
    np.testing.assert_array_equal(top, wanted)
    check_gradient(layer, x)


def test_pad_refuses(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"twice for each axis of \(2, 3\), got 3"):
        make_layer('type: "Pad" pad_param { paddings: [1, 1, 0] }', (2, 3))
    with pytest.raises(NetError, match=r"(?i)in.place"):
        make_layer('type: "Pad" bottom: "x" top: "x" pad_param { paddings: [0, 0] }', (2,))
