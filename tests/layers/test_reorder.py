from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize("shape", [(2, 12, 2, 3), (1, 6), (2, 6, 4)])
@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_channels_are_shuffled(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    group: int,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "ShuffleChannel" shuffle_channel_param {{ group: {group} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    each = shape[1] // group
    for g in range(group):
        for k in range(each):
            np.testing.assert_array_equal(y[:, k * group + g], x[:, g * each + k])
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ('type: "Flip"', (False, True)),
        ('type: "Flip" flip_param { flip_height: true }', (True, True)),
        ('type: "Flip" flip_param { flip_width: false flip_height: true }', (True, False)),
        ('type: "Flip" flip_param { flip_width: false }', (False, False)),
        ('type: "Reverse" reverse_param { axis: 2 axis: 3 }', (True, True)),
        ('type: "Reverse" reverse_param { axis: -1 }', (False, True)),
    ],
)
def test_images_are_mirrored(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    text: str,
    mirrored: tuple[bool, bool],
) -> None:
    layer = make_layer(text, (2, 2, 3, 4))
    x = spread(2, 2, 3, 4)
    (y,) = run(layer, x)
    for n, c, h, w in np.ndindex(*x.shape):
        at = (2 - h if mirrored[0] else h, 3 - w if mirrored[1] else w)
        assert y[n, c, h, w] == x[n, c, *at]
    check_gradient(layer, x)


def test_the_first_axis_is_reversed(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    x = spread(4, 3)
    np.testing.assert_array_equal(run(make_layer('type: "Reverse"', (4, 3)), x)[0], x[::-1])


@pytest.mark.parametrize("dim", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
def test_axes_are_transposed(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    dim: tuple[int, ...],
) -> None:
    fields = " ".join(f"dim: {k}" for k in dim)
    layer = make_layer(f'type: "Transpose" transpose_param {{ {fields} }}', (2, 3, 4))
    x = spread(2, 3, 4)
    (y,) = run(layer, x)
    for at in np.ndindex(*y.shape):
        source = [0, 0, 0]
        for k, axis in enumerate(dim):
            source[axis] = at[k]
        assert y[at] == x[tuple(source)]
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            'type: "ShuffleChannel" shuffle_channel_param { group: 4 }',
            (1, 6),
            "channels must be a multiple of group 4, got 6",
        ),
        ('type: "ShuffleChannel" shuffle_channel_param { group: 0 }', (1, 6), "group must be > 0"),
        ('type: "ShuffleChannel"', (6,), "at least 2 axes"),
        ('type: "Flip"', (2, 3, 4), r"mirrors images \(N, C, H, W\), got a bottom of shape"),
        ('type: "Flip" bottom: "x" top: "x"', (1, 1, 2, 2), "does not allow in-place"),
        ('type: "Reverse" reverse_param { axis: 2 }', (2, 3), "axis 2 does not exist"),
        ('type: "Reverse" reverse_param { axis: 1 axis: -1 }', (2, 3), "an axis is named twice"),
        ('type: "Transpose"', (2, 3), r"dim must name each of the axes of \(2, 3\) once, got \(\)"),
        ('type: "Transpose" transpose_param { dim: 0 dim: 0 }', (2, 3), r"got \(0, 0\)"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, shape)
