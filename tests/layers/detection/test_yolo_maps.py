from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner


def darknet(x: Array, stride: int, top: Array, *, reverse: bool) -> Array:
    """One number after the other, by its place in memory."""
    n, channels, height, width = x.shape
    source, target = x.reshape(-1), top.reshape(-1)
    fewer = channels // (stride * stride)
    for b, k, j, i in np.ndindex(n, channels, height, width):
        near = i + width * (j + height * (k + channels * b))
        offset, c = divmod(k, fewer)
        column = i * stride + offset % stride
        row = j * stride + offset // stride
        far = column + width * stride * (row + height * stride * (c + fewer * b))
        if reverse:
            target[far] = source[near]
        else:
            target[near] = source[far]
    return top


@pytest.mark.parametrize("shape", [(2, 8, 4, 6), (1, 4, 2, 2), (2, 9, 6, 3), (1, 9, 3, 3)])
@pytest.mark.parametrize("reverse", [False, True])
def test_reorg(
    make_layer: LayerMaker, run: Runner, shape: tuple[int, ...], *, reverse: bool
) -> None:
    s = 3 if shape[1] == 9 else 2
    n, c, h, w = shape
    x = np.arange(float(np.prod(shape))).reshape(shape)
    flag = "reverse: true" if reverse else ""
    layer = make_layer(f'type: "Reorg" reorg_param {{ stride: {s} {flag} }}', shape)
    top = np.zeros((n, c // s**2, h * s, w * s) if reverse else (n, c * s**2, h // s, w // s))
    (have,) = run(layer, x)
    np.testing.assert_array_equal(have, darknet(x, s, top, reverse=reverse))


def test_reverse_undoes_reorg(make_layer: LayerMaker, run: Runner) -> None:
    """But for the shape: both keep the memory that darknet reads as (C / s^2, H s, W s)."""
    x = np.random.default_rng(0).normal(size=(2, 4, 6, 4))
    (y,) = run(make_layer('type: "Reorg" reorg_param { stride: 2 reverse: true }', x.shape), x)
    again = y.reshape(x.shape)
    (back,) = run(make_layer('type: "Reorg" reorg_param { stride: 2 }', x.shape), again)
    np.testing.assert_array_equal(back.reshape(x.shape), x)


def test_gradients(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    x = np.random.default_rng(0).normal(size=(1, 4, 2, 4))
    check_gradient(make_layer('type: "Reorg" reorg_param { stride: 2 }', x.shape), x)
    layer = make_layer('type: "ReorgYolo" reorg_yolo_param { stride: 2 }', x.shape)
    check_gradient(layer, x)
    text = 'type: "RegionYolo" region_yolo_param { classes: 1 coords: 2 num: 1 }'
    layer = make_layer(text, x.shape)
    check_gradient(layer, x)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("coords", [2, 4, 5])
def test_region_yolo(make_layer: LayerMaker, run: Runner, coords: int, *, softmax: bool) -> None:
    each = coords + 4
    x = np.random.default_rng(1).normal(size=(2, 2 * each, 3, 2))
    mask = "num: 2" if softmax else "num: 9 mask: 3 mask: 7"
    layer = make_layer(
        f'type: "RegionYolo" region_yolo_param {{ classes: 3 coords: {coords} {mask}'
        f" do_softmax: {str(softmax).lower()} }}",
        x.shape,
    )
    (have,) = run(layer, x)
    want = x.reshape(2, 2, each, 3, 2).copy()
    for n, a, row, column in np.ndindex(2, 2, 3, 2):
        values = want[n, a, :, row, column]
        for k in (0, 1, coords):
            values[k] = slow.sigmoid(values[k])
        classes = values[coords + 1 :]
        classes[:] = slow.softmax(classes) if softmax else [slow.sigmoid(v) for v in classes]
    shape = (2, 2 * each * 6) if softmax else x.shape
    assert have.shape == shape
    np.testing.assert_allclose(have, want.reshape(shape))


@pytest.mark.parametrize(
    ("flatten", "shape"),
    [("axis: 2", (1, 18, 6)), ("axis: 0 end_axis: 1", (18, 3, 2)), ("axis: 3", (1, 18, 3, 2))],
)
def test_axes_that_become_one(make_layer: LayerMaker, flatten: str, shape: tuple[int, ...]) -> None:
    layer = make_layer(
        'type: "RegionYolo" region_yolo_param { classes: 4 num: 2 }'
        f" flatten_param {{ {flatten} }}",
        (1, 18, 3, 2),
    )
    assert layer.first_top_shapes == [shape]


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        ('"Reorg"', (1, 4, 4, 4), "stride is missing"),
        ('"Reorg" reorg_param { stride: 2 }', (1, 6, 4, 4), "stride * stride = 4, got 6"),
        ('"Reorg" reorg_param { stride: 2 }', (1, 4, 5, 4), "multiples of stride 2, got 5 x 4"),
        ('"Reorg" reorg_param { stride: 2 }', (4, 4), "N C H W, got shape 4 4 (16)"),
        ('"RegionYolo" region_yolo_param { num: 2 }', (1, 49, 2, 2), "need 50 channels"),
        ('"RegionYolo" region_yolo_param { coords: 1 }', (1, 22, 2, 2), "coords must be >= 2"),
        (
            '"RegionYolo" flatten_param { axis: 2 end_axis: 1 }',
            (1, 25, 2, 2),
            "axis 2 lies behind end_axis 1",
        ),
    ],
)
def test_bad_options(
    make_layer: LayerMaker, text: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(NetError, match=re.escape(message)):
        make_layer(f"type: {text}", shape)
