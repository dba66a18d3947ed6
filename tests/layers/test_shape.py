from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Shape, Spread


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
        ("axis: 1 concat_dim: 1", [(2, 3), (2, 3)], "either axis or concat_dim, not both"),
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
        ('type: "Flatten" flatten_param { axis: 2 end_axis: 1 }', "end_axis 1 lies before axis 2"),
        ('type: "Flatten" bottom: "x" top: "x"', "does not allow in-place"),
        ('type: "Flatten" flatten_param { axis: 3 }', "axis 3 does not exist"),
    ],
)
def test_flatten_refuses(make_layer: LayerMaker, text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, (2, 3, 4))


def test_silence_has_nothing_to_say(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    assert run(make_layer('type: "Silence"', (2,), (3,)), spread(2), spread(3)) == []
