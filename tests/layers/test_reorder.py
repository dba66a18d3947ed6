from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import DataError, NetError

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


@pytest.mark.parametrize("fields", ["", "copy_remaining: true"])
@pytest.mark.parametrize("rest", [(), (2,)])
def test_sequences_of_different_lengths_are_reversed(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    rest: Shape,
) -> None:
    x, lengths = spread(4, 3, *rest), np.array([4, 0, 3])
    layer = make_layer(f'type: "ReverseTime" reverse_time_param {{ {fields} }}', x.shape, (3,))
    want = x.copy() if fields else np.zeros_like(x)
    for n, length in enumerate(lengths):
        want[:length, n] = x[:length, n][::-1]
    np.testing.assert_array_equal(run(layer, x, lengths)[0], want)
    check_gradient(layer, x, lengths)


def test_reverse_time_refuses(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match=r"one length for each of the 3 sequences, got .* \(2,\)"):
        make_layer('type: "ReverseTime"', (4, 3), (2,))
    with pytest.raises(NetError, match="does not allow in-place"):
        make_layer('type: "ReverseTime" bottom: "x" bottom: "n" top: "x"', (4, 3), (3,))
    layer = make_layer('type: "ReverseTime"', (4, 3), (3,))
    with pytest.raises(DataError, match=r"a length of 5 lies outside of 0 to 4, the steps"):
        run(layer, np.zeros((4, 3)), np.array([1, 5, 2]))


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_gs_tiling(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    stride: int,
) -> None:
    x = spread(2, 3, 2 * stride, 3 * stride)
    text = f'type: "GSTiling" gs_tiling_param {{ stride: {stride} reverse: %s }}'
    layer = make_layer(text % "false", x.shape)
    (top,) = run(layer, x)
    assert top.shape == (2, 3 * stride**2, 2, 3)
    for n, c, i, j in np.ndindex(*x.shape):
        channel = (i % stride * stride + j % stride) * 3 + c
        assert top[n, channel, i // stride, j // stride] == x[n, c, i, j]
    check_gradient(layer, x)
    back = make_layer(text % "true", top.shape)
    np.testing.assert_array_equal(run(back, top)[0], x)
    check_gradient(back, top)


@pytest.mark.parametrize(
    ("text", "shape", "told"),
    [
        ("gs_tiling_param { }", (1, 4, 2, 2), "stride is missing"),
        ("gs_tiling_param { stride: 0 }", (1, 4, 2, 2), "stride must be > 0"),
        ("gs_tiling_param { stride: 2 }", (1, 4, 2, 3), "multiples of stride 2, got 2 x 3"),
        ("gs_tiling_param { stride: 2 reverse: true }", (1, 6, 2, 2), "a multiple of 4, stride"),
        ("gs_tiling_param { stride: 2 }", (4, 4), r"takes images \(N, C, H, W\)"),
        ('gs_tiling_param { stride: 1 } bottom: "x" top: "x"', (1, 4, 2, 2), "(?i)in.place"),
    ],
)
def test_gs_tiling_refuses(
    make_layer: LayerMaker, text: str, shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(f'type: "GSTiling" {text}', shape)


def test_tiling(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(2, 18, 2, 3)
    layer = make_layer('type: "Tiling" tiling_param { tile_dim: 3 }', x.shape)
    (top,) = run(layer, x)
    assert top.shape == (2, 2, 6, 9)
    for n, c, i, j in np.ndindex(*top.shape):
        assert top[n, c, i, j] == x[n, c * 9 + i % 3 * 3 + j % 3, i // 3, j // 3]
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("text", "shape", "told"),
    [
        ("tiling_param { }", (1, 4, 2, 2), "tile_dim is missing"),
        ("tiling_param { tile_dim: 0 }", (1, 4, 2, 2), "tile_dim must be > 0"),
        ("tiling_param { tile_dim: 2 }", (1, 6, 2, 3), "a multiple of 4, tile_dim.2, got 6"),
        ("tiling_param { tile_dim: 2 }", (4, 4), r"takes images \(N, C, H, W\)"),
        ('tiling_param { tile_dim: 1 } bottom: "x" top: "x"', (1, 4, 2, 2), "(?i)in.place"),
    ],
)
def test_tiling_refuses(
    make_layer: LayerMaker, text: str, shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(f'type: "Tiling" {text}', shape)
