from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


def test_split_hands_on_the_same_memory(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer('type: "Split" top: "a" top: "b" top: "c"', (2, 3))
    x = torch.from_numpy(spread(2, 3)).float()
    tops = layer(x)
    assert layer.top_shapes((2, 3)) == [(2, 3)] * 3
    assert [t.data_ptr() for t in tops] == [x.data_ptr()] * 3
    check_gradient(layer, spread(2, 3))


def test_gradients_of_a_split_add_up(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Split" top: "a" top: "b"', (2,))
    x = torch.ones(2, requires_grad=True)
    a, b = layer(x)
    (2 * a + 3 * b).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [5, 5]


@pytest.mark.parametrize(
    ("fields", "axis", "shapes"),
    [
        ("", 1, [(2, 3), (2, 1)]),
        ("axis: 0", 0, [(1, 3), (2, 3), (4, 3)]),
        ("axis: -1", 3, [(1, 2, 2, 1), (1, 2, 2, 3)]),
        ("concat_dim: 2", 2, [(1, 2, 2, 3), (1, 2, 4, 3)]),
        ("", 1, [(2, 3)]),
    ],
)
def test_concat(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    axis: int,
    shapes: list[Shape],
) -> None:
    layer = make_layer(f'type: "Concat" concat_param {{ {fields} }}', *shapes)
    bottoms = [spread(*shape) + 100 * k for k, shape in enumerate(shapes)]
    (y,) = run(layer, *bottoms)
    offset = 0
    for bottom in bottoms:
        for at in np.ndindex(*bottom.shape):
            assert y[(*at[:axis], offset + at[axis], *at[axis + 1 :])] == bottom[at]
        offset += bottom.shape[axis]
    assert y.shape[axis] == offset
    check_gradient(layer, *bottoms)


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", [(2, 3), (3, 3)], "must have the same shape, except at concat_axis 1"),
        ("", [(2, 3), (2, 3, 1)], "must have the same shape, except at concat_axis 1"),
        ("axis: 1 concat_dim: 0", [(2, 3), (2, 3)], "either axis or concat_dim, not both"),
        ("axis: 2", [(2, 3), (2, 3)], "axis 2 does not exist"),
    ],
)
def test_concat_refuses(
    make_layer: LayerMaker, fields: str, shapes: list[Shape], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Concat" concat_param {{ {fields} }}', *shapes)


@pytest.mark.parametrize(
    ("fields", "bottom", "top"),
    [
        ("", (2, 3, 4, 5), (2, 60)),
        ("axis: 2", (2, 3, 4, 5), (2, 3, 20)),
        ("axis: 0", (2, 3), (6,)),
        ("axis: 1 end_axis: 2", (2, 3, 4, 5), (2, 12, 5)),
        ("axis: -3 end_axis: -2", (2, 3, 4, 5), (2, 12, 5)),
        ("axis: 1 end_axis: 1", (2, 3, 4), (2, 3, 4)),
        ("axis: 2 end_axis: 1", (2, 3, 4), (2, 3, 1, 4)),
        ("end_axis: 0", (2, 3), (2, 1, 3)),
    ],
)
def test_flatten(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    bottom: Shape,
    top: Shape,
) -> None:
    layer = make_layer(f'type: "Flatten" flatten_param {{ {fields} }}', bottom)
    x = spread(*bottom)
    (y,) = run(layer, x)
    assert y.shape == top
    assert y.ravel().tolist() == x.ravel().tolist()
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 0 }', "end_axis 0 lies before axis 2"),
        ('type: "Flatten" bottom: "x" top: "x"', "does not allow in-place"),
        ('type: "Flatten" flatten_param { axis: 3 }', "axis 3 does not exist"),
    ],
)
def test_flatten_refuses(make_layer: LayerMaker, text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, (2, 3, 4))


def test_silence_has_nothing_to_say(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    assert run(make_layer('type: "Silence"', (2,), (3,)), spread(2), spread(3)) == []


@pytest.mark.parametrize(
    ("fields", "bottom", "top"),
    [
        ("shape { dim: 3 dim: 8 }", (2, 3, 4), (3, 8)),
        ("shape { dim: 0 dim: -1 }", (2, 3, 4), (2, 12)),
        ("shape { dim: -1 dim: 2 }", (2, 3, 4), (12, 2)),
        ("shape { dim: 0 dim: 0 dim: 2 dim: -1 }", (2, 3, 4), (2, 3, 2, 2)),
        ("axis: 1 shape { dim: 6 dim: 2 }", (2, 3, 4), (2, 6, 2)),
        ("axis: 1 shape { dim: 0 dim: -1 }", (2, 3, 4), (2, 3, 4)),
        ("axis: 1 num_axes: 1 shape { dim: 3 dim: 1 }", (2, 3, 4), (2, 3, 1, 4)),
        ("axis: 1 num_axes: 0 shape { dim: 1 }", (2, 3, 4), (2, 1, 3, 4)),
        ("axis: 1 num_axes: 2 shape { dim: -1 }", (2, 3, 4), (2, 12)),
        ("axis: -1 shape { dim: 1 dim: 1 }", (2, 3), (2, 3, 1, 1)),
        ("axis: -1 num_axes: 0 shape { dim: 1 }", (2, 3), (2, 3, 1)),
        ("axis: -2 shape { dim: 3 dim: 2 }", (2, 6), (2, 3, 2)),
        ("axis: -3 num_axes: 0 shape { dim: 1 }", (2, 3), (1, 2, 3)),
        ("shape { }", (1, 1), ()),
    ],
)
def test_reshape(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    bottom: Shape,
    top: Shape,
) -> None:
    layer = make_layer(f'type: "Reshape" reshape_param {{ {fields} }}', bottom)
    x = spread(*bottom)
    (y,) = run(layer, x)
    assert y.shape == top
    assert y.ravel().tolist() == x.ravel().tolist()
    t = torch.from_numpy(x)
    assert layer(t).data_ptr() == t.data_ptr()
    check_gradient(layer, x)


def test_reshape_follows_its_bottom(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Reshape" reshape_param { shape { dim: 0 dim: -1 } }', (2, 3, 4))
    assert layer.top_shapes((5, 2, 2)) == [(5, 4)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("shape { dim: -1 dim: -1 }", r"at most a single \(1\) value of -1"),
        ("shape { dim: -2 dim: -12 }", "a dim of shape is a size, 0 or -1, got -12"),
        ("shape { dim: 5 }", r"output count must match input count: \(2, 3, 4\) into \(5,\)"),
        ("shape { dim: 5 dim: -1 }", "must be divisible by the product .*: 24 by 5"),
        ("shape { dim: 1 dim: 1 dim: -1 dim: 0 }", "no corresponding bottom axis 3 to copy"),
        ("axis: 4 shape { dim: 1 }", "axis 4 does not exist"),
        ("axis: -5 shape { dim: 1 }", "axis -5 does not exist"),
        ("axis: 2 num_axes: 2 shape { dim: 1 }", "axis 2 and 2 axes reach past shape"),
        ("num_axes: -2 shape { dim: -1 }", "num_axes must be >= 0, or -1 for all, got -2"),
    ],
)
def test_reshape_refuses(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Reshape" reshape_param {{ {fields} }}', (2, 3, 4))


def test_reshape_does_not_allow_in_place(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="does not allow in-place"):
        make_layer('type: "Reshape" bottom: "x" top: "x"', (2, 3))


def test_debug_passes_its_first_bottom_on(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(2, 3)
    layer = make_layer('type: "Debug" debug_param { max_stored_batches: 2000 }', (2, 3), (2,))
    np.testing.assert_array_equal(run(layer, x, np.zeros(2))[0], x)
    alone = make_layer('type: "Debug"', (2, 3))
    check_gradient(alone, x)


@pytest.mark.parametrize(
    ("fields", "shape", "top"),
    [
        ("", (2, 1, 3, 1), (2, 3)),
        ("", (1, 1), ()),
        ("axis: 1", (2, 1, 3, 1), (2, 3, 1)),
        ("axis: -1 axis: 3", (2, 1, 3, 1), (2, 1, 3)),
        ("axis: 0 axis: 1", (1, 1, 3), (3,)),
    ],
)
def test_squeeze(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    top: Shape,
) -> None:
    x = spread(*shape)
    layer = make_layer(f'type: "Squeeze" squeeze_param {{ {fields} }}', shape)
    np.testing.assert_array_equal(run(layer, x)[0], x.reshape(top))
    check_gradient(layer, x)


def test_squeeze_refuses(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="axis 2 cannot be removed, its size is 3"):
        make_layer('type: "Squeeze" squeeze_param { axis: -1 }', (1, 1, 3))
    with pytest.raises(NetError, match=r"in.place"):
        make_layer('type: "Squeeze" bottom: "x" top: "x"', (1, 3))
