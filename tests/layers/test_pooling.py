from __future__ import annotations

from itertools import product
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Shape, Spread

Array = NDArray[Any]
Pair = tuple[int, int]
LOWEST = -3.4028234663852886e38  # -FLT_MAX


def out_size(size: int, kernel: int, stride: int, pad: int, up: bool) -> int:
    steps = (size + 2 * pad - kernel) / stride
    out = (ceil(steps) if up else floor(steps)) + 1
    return out - 1 if pad and (out - 1) * stride >= size + pad else out


def pool(x: Array, method: str, kernel: Pair, stride: Pair, pad: Pair, up: bool) -> list[Array]:
    """Top and mask, window by window, as BVLC Caffe's loops do it."""
    sizes = x.shape[2:]
    out = [out_size(sizes[a], kernel[a], stride[a], pad[a], up) for a in (0, 1)]
    y, mask = np.zeros((*x.shape[:2], *out)), np.full((*x.shape[:2], *out), -1.0)
    for n, c, i, j in product(*map(range, y.shape)):
        at = (i, j)
        start = [at[a] * stride[a] - pad[a] for a in (0, 1)]
        end = [min(start[a] + kernel[a], sizes[a] + pad[a]) for a in (0, 1)]
        area = max(end[0] - start[0], 0) * max(end[1] - start[1], 0)
        rows = range(max(start[0], 0), min(end[0], sizes[0]))
        columns = range(max(start[1], 0), min(end[1], sizes[1]))
        pixels = list(product(rows, columns))
        values = [x[n, c, h, w] for h, w in pixels]
        if method == "AVE":
            y[n, c, i, j] = sum(values) / area if area else np.nan
        elif method == "MAX":
            y[n, c, i, j] = LOWEST
            for (h, w), value in zip(pixels, values, strict=True):
                if value > y[n, c, i, j]:
                    y[n, c, i, j], mask[n, c, i, j] = value, h * sizes[1] + w
        else:
            total = sum(values)
            y[n, c, i, j] = sum(v * v for v in values) / total if total else 0.0
    return [y, mask]


CASES = [
    # fields, kernel, stride, pad, round up
    ("kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0), True),
    ("kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), True),
    ("kernel_size: 3 stride: 2 round_mode: FLOOR", (3, 3), (2, 2), (0, 0), False),
    ("kernel_size: 3 stride: 1 pad: 1", (3, 3), (1, 1), (1, 1), True),
    ("kernel_size: 2 stride: 2 pad: 1", (2, 2), (2, 2), (1, 1), True),
    ("kernel_size: 3 stride: 2 pad: 2", (3, 3), (2, 2), (2, 2), True),
    (
        "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0",
        (3, 2),
        (1, 2),
        (1, 0),
        True,
    ),
    ("kernel_size: 5 stride: 3 pad: 2", (5, 5), (3, 3), (2, 2), True),
]
SHAPES = [(2, 2, 6, 5), (1, 1, 7, 8)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize(("fields", "kernel", "stride", "pad", "up"), CASES)
def test_pooling_window_by_window(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    method: str,
    shape: Shape,
    fields: str,
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    up: bool,
) -> None:
    layer = make_layer(f'type: "Pooling" pooling_param {{ pool: {method} {fields} }}', shape)
    x = np.abs(spread(*shape)) if method == "STOCHASTIC" else spread(*shape)
    (y,) = run(layer, x)
    # Sums of at most 25 terms in double precision.
    np.testing.assert_allclose(y, pool(x, method, kernel, stride, pad, up)[0], rtol=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize(("fields", "kernel", "stride", "pad", "up"), CASES)
def test_mask_holds_the_index_inside_the_channel(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    up: bool,
) -> None:
    text = f'type: "Pooling" top: "y" top: "mask" pooling_param {{ {fields} }}'
    layer = make_layer(text, (2, 2, 6, 5))
    x = spread(2, 2, 6, 5)
    for have, want in zip(run(layer, x), pool(x, "MAX", kernel, stride, pad, up), strict=True):
        np.testing.assert_array_equal(have, want)
    check_gradient(layer, x)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_global_pooling_takes_the_whole_image(
    make_layer: LayerMaker, run: Runner, spread: Spread, method: str
) -> None:
    text = f'type: "Pooling" pooling_param {{ pool: {method} global_pooling: true }}'
    layer = make_layer(text, (2, 3, 4, 5))
    x = spread(2, 3, 4, 5)
    (y,) = run(layer, x)
    wanted = pool(x, method, (4, 5), (1, 1), (0, 0), True)[0]
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # double precision
    assert layer.top_shapes((1, 3, 9, 2)) == [(1, 3, 1, 1)]


def test_first_maximum_gets_the_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Pooling" pooling_param { kernel_size: 2 }', (1, 1, 2, 2))
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(("method", "empty"), [("MAX", LOWEST), ("AVE", np.nan)])
def test_window_without_pixels(
    make_layer: LayerMaker, run: Runner, spread: Spread, method: str, empty: float
) -> None:
    text = f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: 2 stride: 4 }}'
    layer = make_layer(text, (1, 1, 7, 4))
    (y,) = run(layer, spread(1, 1, 7, 4))
    assert y.shape == (1, 1, 3, 2)
    np.testing.assert_array_equal(y[0, 0, 2], [empty, empty])


def test_stochastic_training_draws_in_proportion(make_layer: LayerMaker) -> None:
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }'
    layer = make_layer(text, (1, 1, 200, 200), training=True)
    x = torch.tensor([[1.0, 2.0], [3.0, 0.0]]).repeat(100, 100)[None, None]
    y = layer(x)
    shares = [(y == value).double().mean().item() for value in (1.0, 2.0, 3.0, 0.0)]
    # 10000 draws: a standard deviation of 0.005.
    np.testing.assert_allclose(shares, [1 / 6, 2 / 6, 3 / 6, 0], atol=0.02)


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("", (1, 1, 4, 4), "kernel_size is missing"),
        ("kernel_h: 2", (1, 1, 4, 4), "give both kernel_h and kernel_w"),
        ("kernel_size: 2 kernel_h: 2 kernel_w: 2", (1, 1, 4, 4), "not both"),
        ("kernel_size: 2 pad: 1 pad_h: 0", (1, 1, 4, 4), "either pad or pad_h and pad_w, not both"),
        ("kernel_size: 2 pad: 2", (1, 1, 4, 4), "pad_h must be < kernel_h, got pad_h=2"),
        ("kernel_size: 0", (1, 1, 4, 4), "kernel_size must be > 0"),
        ("kernel_size: 2 stride: 0", (1, 1, 4, 4), "stride must be > 0"),
        ("kernel_size: 2", (1, 4, 4), r"pools images \(N, C, H, W\), got a bottom of shape"),
        ("kernel_size: 2 global_pooling: true", (1, 1, 4, 4), "give no kernel size"),
        ("global_pooling: true pad: 1", (1, 1, 4, 4), "pad must be 0"),
        ("global_pooling: true stride: 2", (1, 1, 4, 4), "stride must be 1"),
        ("kernel_size: 6 round_mode: FLOOR", (1, 1, 4, 4), "is larger than the image"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Pooling" pooling_param {{ {fields} }}', shape)


def test_only_max_has_a_mask(make_layer: LayerMaker) -> None:
    text = 'type: "Pooling" top: "y" top: "mask" pooling_param { pool: AVE kernel_size: 2 }'
    with pytest.raises(NetError, match="only MAX pooling has a second top"):
        make_layer(text, (1, 1, 4, 4))


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
        ("pyramid_height: 3", (1, 1, 5, 5), r"an image of \(5, 5\) is too small for 3 levels"),
    ],
)
def test_pyramid_refuses(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "SPP" spp_param {{ {fields} }}', shape)
