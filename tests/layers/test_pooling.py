from __future__ import annotations

from itertools import product
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape

LOWEST = -3.4028234663852886e38  # -FLT_MAX


def out_size(size: int, kernel: int, stride: int, pad: int, up: bool, clip: bool) -> int:
    steps = (size + 2 * pad - kernel) / stride
    out = (ceil(steps) if up else floor(steps)) + 1
    return out - 1 if clip and (out - 1) * stride >= size + pad else out


def pool(x: Array, method: str, kernel: Shape, stride: Shape, pad: Shape, up: bool) -> list[Array]:
    """Top and mask, window by window, as BVLC Caffe's loops do it."""
    sizes = x.shape[2:]
    axes = range(len(sizes))
    out = [out_size(sizes[a], kernel[a], stride[a], pad[a], up, any(pad)) for a in axes]
    y, mask = np.zeros((*x.shape[:2], *out)), np.full((*x.shape[:2], *out), -1.0)
    for n, c, *at in product(*map(range, y.shape)):
        start = [at[a] * stride[a] - pad[a] for a in axes]
        end = [min(start[a] + kernel[a], sizes[a] + pad[a]) for a in axes]
        area = np.prod([end[a] - start[a] for a in axes])
        pixels = list(product(*(range(max(start[a], 0), min(end[a], sizes[a])) for a in axes)))
        values = [x[(n, c, *pixel)] for pixel in pixels]
        here = (n, c, *at)
        if method == "AVE":
            y[here] = sum(values) / area if area else np.nan
        elif method == "MAX":
            y[here] = LOWEST
            for pixel, value in zip(pixels, values, strict=True):
                if value > y[here]:
                    y[here], mask[here] = value, np.ravel_multi_index(pixel, sizes)
        else:
            total = sum(values)
            y[here] = sum(v * v for v in values) / total if total else 0.0
    return [y, mask]


CASES = [
    # fields, kernel, stride, pad, round up
    ("kernel_size: 2 stride: 2", (2, 2), (2, 2), (0, 0), True),
    ("kernel_size: 3 stride: 2", (3, 3), (2, 2), (0, 0), True),
    ("kernel_size: 3 stride: 2 round_mode: FLOOR", (3, 3), (2, 2), (0, 0), False),
    ("kernel_size: 3 stride: 2 ceil_mode: false", (3, 3), (2, 2), (0, 0), False),
    ("kernel_size: 3 stride: 2 ceil_mode: true", (3, 3), (2, 2), (0, 0), True),
    ("kernel_size: 3 stride: 2 torch_pooling: true", (3, 3), (2, 2), (0, 0), False),
    (
        "kernel_shape { dim: 3 dim: 2 } stride_shape { dim: 1 dim: 2 } pad_shape { dim: 1 dim: 0 }",
        (3, 2),
        (1, 2),
        (1, 0),
        True,
    ),
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
    (
        "kernel_h: 2 kernel_w: 3 stride_h: 4 stride_w: 1 pad_h: 0 pad_w: 1",
        (2, 3),
        (4, 1),
        (0, 1),
        True,
    ),
]
SHAPES = [(2, 2, 6, 5), (1, 1, 7, 8)]
OTHER_AXES = [
    # fields, bottom, kernel, stride, pad, round up
    ("kernel_size: 3 stride: 2", (2, 2, 8), (3,), (2,), (0,), True),
    ("kernel_size: 3 stride: 2 pad: 2", (1, 2, 6), (3,), (2,), (2,), True),
    ("kernel_size: 2 stride: 3", (1, 2, 7), (2,), (3,), (0,), True),
    ("kernel_size_3d: 2", (1, 2, 4), (2,), (1,), (0,), True),
    ("kernel_size: 2 stride: 2", (1, 2, 3, 4, 5), (2,) * 3, (2,) * 3, (0,) * 3, True),
    ("kernel_size: 2 round_mode: FLOOR", (2, 1, 2, 3, 4), (2,) * 3, (1,) * 3, (0,) * 3, False),
    ("kernel_size: 3 stride: 2 pad: 2", (1, 1, 4, 3, 2), (3,) * 3, (2,) * 3, (2,) * 3, True),
    ("kernel_size: 2 stride: 2", (1, 2, 4, 5, 1), (2,) * 3, (2,) * 3, (0,) * 3, True),
    ("kernel_size: 3 stride: 2 pad: 1", (1, 2, 4, 1, 2), (3,) * 3, (2,) * 3, (1,) * 3, True),
    (
        "kernel_size_3d: 1 kernel_size_3d: 3 kernel_size_3d: 2"
        " stride_3d: 1 stride_3d: 2 stride_3d: 2 pad_3d: 0 pad_3d: 1 pad_3d: 0",
        (1, 2, 2, 5, 4),
        (1, 3, 2),
        (1, 2, 2),
        (0, 1, 0),
        True,
    ),
    (
        "kernel_size: 3 stride_3d: 1 stride_3d: 2 stride_3d: 3 pad: 1",
        (1, 2, 3, 4, 5),
        (3, 3, 3),
        (1, 2, 3),
        (1, 1, 1),
        True,
    ),
]
ALL_CASES = [
    (fields, shape, *rest) for shape in SHAPES for fields, *rest in CASES
] + OTHER_AXES  # fmt: skip


@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize(("fields", "shape", "kernel", "stride", "pad", "up"), ALL_CASES)
def test_pooling_window_by_window(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    method: str,
    shape: Shape,
    fields: str,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    up: bool,
) -> None:
    layer = make_layer(f'type: "Pooling" pooling_param {{ pool: {method} {fields} }}', shape)
    x = np.abs(spread(*shape)) if method == "STOCHASTIC" else spread(*shape)
    (y,) = run(layer, x)
    # Sums of at most 25 terms in double precision.
    np.testing.assert_allclose(y, pool(x, method, kernel, stride, pad, up)[0], rtol=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize(("fields", "shape", "kernel", "stride", "pad", "up"), ALL_CASES)
def test_mask_holds_the_index_inside_the_channel(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    up: bool,
) -> None:
    text = f'type: "Pooling" top: "y" top: "mask" pooling_param {{ {fields} }}'
    layer = make_layer(text, shape)
    x = spread(*shape)
    for have, want in zip(run(layer, x), pool(x, "MAX", kernel, stride, pad, up), strict=True):
        np.testing.assert_array_equal(have, want)
    check_gradient(layer, x)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize("size", [(4,), (4, 5), (2, 3, 2)])
def test_global_pooling_takes_the_whole_image(
    make_layer: LayerMaker, run: Runner, spread: Spread, method: str, size: Shape
) -> None:
    text = f'type: "Pooling" pooling_param {{ pool: {method} global_pooling: true }}'
    layer = make_layer(text, (2, 3, *size))
    x = spread(2, 3, *size)
    (y,) = run(layer, x)
    ones, zeros = (1,) * len(size), (0,) * len(size)
    np.testing.assert_allclose(y, pool(x, method, size, ones, zeros, True)[0], rtol=1e-12)
    assert layer.top_shapes((1, 3, *(9,) * len(size))) == [(1, 3, *ones)]


@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
@pytest.mark.parametrize("fields", ["kernel_size: 1", "global_pooling: true"])
def test_without_spatial_axes_there_is_one_pixel(
    make_layer: LayerMaker, run: Runner, spread: Spread, method: str, fields: str
) -> None:
    layer = make_layer(f'type: "Pooling" pooling_param {{ pool: {method} {fields} }}', (2, 3))
    x = np.abs(spread(2, 3))
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, x[..., None, None], rtol=1e-12)  # x^2 / x in double precision


def test_first_maximum_gets_the_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Pooling" pooling_param { kernel_size: 2 }', (1, 1, 2, 2))
    x = torch.ones(1, 1, 2, 2, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("method", "height", "empty"),
    [("MAX", 7, LOWEST), ("AVE", 8, np.nan), ("AVE", 7, 0)],  # the third window starts at 8
)
def test_window_without_pixels(
    make_layer: LayerMaker, run: Runner, spread: Spread, method: str, height: int, empty: float
) -> None:
    text = f'type: "Pooling" pooling_param {{ pool: {method} kernel_size: 2 stride: 4 }}'
    layer = make_layer(text, (1, 1, height, 2))
    (y,) = run(layer, spread(1, 1, height, 2))
    np.testing.assert_array_equal(y[0, 0, 2:], [[empty]])


@pytest.mark.parametrize("size", [(6,), (6, 3), (3, 6, 6)])
def test_the_mask_of_a_window_without_pixels(
    make_layer: LayerMaker, run: Runner, spread: Spread, size: Shape
) -> None:
    text = 'type: "Pooling" top: "y" top: "mask" pooling_param { kernel_size: 1 stride: 4 }'
    x = spread(1, 2, *size)
    axes = len(size)
    wanted = pool(x, "MAX", (1,) * axes, (4,) * axes, (0,) * axes, True)
    assert (wanted[1] == -1).any()
    for have, want in zip(run(make_layer(text, x.shape), x), wanted, strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("stride", [30, 2**32 - 1])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("method", ["MAX", "AVE", "STOCHASTIC"])
def test_a_stride_past_the_image(
    make_layer: LayerMaker, run: Runner, spread: Spread, method: str, pad: int, stride: int
) -> None:
    fields = f"pool: {method} kernel_size: 3 pad: {pad} stride: {stride}"
    x = np.abs(spread(1, 2, 5, 4))
    (y,) = run(make_layer(f'type: "Pooling" pooling_param {{ {fields} }}', x.shape), x)
    wanted = pool(x, method, (3, 3), (stride, stride), (pad, pad), True)[0]
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # double precision


def test_stochastic_training_draws_in_proportion(make_layer: LayerMaker) -> None:
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }'
    layer = make_layer(text, (1, 1, 200, 200), training=True)
    x = torch.tensor([[1.0, 2.0], [0.0, 3.0]]).repeat(100, 100)[None, None]
    y = layer(x)
    shares = [(y == value).double().mean().item() for value in (1.0, 2.0, 0.0, 3.0)]
    # 10000 draws: a standard deviation of 0.005.
    np.testing.assert_allclose(shares, [1 / 6, 2 / 6, 0, 3 / 6], atol=0.02)


def test_stochastic_gradient_goes_to_the_value_drawn(
    make_layer: LayerMaker, spread: Spread
) -> None:
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 3 }'
    layer = make_layer(text, (2, 2, 6, 6), training=True)
    values = spread(2, 2, 6, 6)
    x = torch.from_numpy(values - values.min() + 0.1).requires_grad_()
    y = layer(x)
    dy = torch.from_numpy(spread(*y.shape))
    (dx,) = torch.autograd.grad(y, x, dy)
    for n, c, i, j in product(*map(range, y.shape)):
        window = np.s_[n, c, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3]
        drawn = x[window] == y[n, c, i, j]
        assert torch.equal(dx[window], drawn * dy[n, c, i, j])


def test_stochastic_training_bears_values_below_zero(make_layer: LayerMaker) -> None:
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }'
    layer = make_layer(text, (1, 1, 2, 2), training=True)
    x = torch.tensor([[[[-3.0, 1.0], [1.5, -1.0]]]])
    assert all(layer(x).item() in x for _ in range(20))


@pytest.mark.parametrize("training", [False, True])
def test_stochastic_pooling_of_zeros_is_zero(make_layer: LayerMaker, training: bool) -> None:
    text = 'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 stride: 2 }'
    layer = make_layer(text, (1, 1, 2, 2), training=training)
    x = torch.zeros(1, 1, 2, 2, requires_grad=True)
    y = layer(x)
    (dx,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert y.item() == 0
    assert dx.flatten().tolist() == [float(training), 0, 0, 0]


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
        ("kernel_size: 2", (4,), r"up to three spatial axes, got shape \(4,\)"),
        ("kernel_size: 2", (1, 1, 2, 2, 2, 2), "up to three spatial axes, got shape"),
        ("global_pooling: true", (1, 1, 2, 2, 2, 2), "up to three spatial axes, got shape"),
        ("kernel_h: 2 kernel_w: 2", (1, 4, 4), "are for two spatial axes, here are 1"),
        ("kernel_size: 2 pad: 2", (1, 4, 4), "pad must be < kernel, got pad=2, kernel=2"),
        ("kernel_size: 2 kernel_size_3d: 2", (1, 1, 4, 4, 4), "kernel_size or kernel_size_3d, not"),
        ("kernel_size_3d: 2 kernel_size_3d: 1", (1, 1, 4, 4, 4), "3 spatial axes, got 2 values"),
        ("kernel_size_3d: 0", (1, 1, 4, 4, 4), "kernel_size_3d must be > 0"),
        ("kernel_size_3d: 2 stride_3d: 0", (1, 1, 4, 4, 4), "stride_3d must be > 0"),
        ("kernel_size: 2", (4, 4), r"\(2 x 2\) is larger than the padded image \(1 x 1\)"),
        ("kernel_size_3d: 2 global_pooling: true", (1, 1, 4, 4, 4), "give no kernel size"),
        ("global_pooling: true pad_3d: 1", (1, 1, 4, 4, 4), "pad must be 0"),
        ("global_pooling: true stride_3d: 2", (1, 1, 4, 4, 4), "stride must be 1"),
        ("kernel_size: 2 global_pooling: true", (1, 1, 4, 4), "give no kernel size"),
        ("global_pooling: true pad: 1", (1, 1, 4, 4), "pad must be 0"),
        ("global_pooling: true stride: 2", (1, 1, 4, 4), "stride must be 1"),
        ("kernel_size: 6 round_mode: FLOOR", (1, 1, 4, 4), "global_pooling: true fits any size"),
        ("kernel_size: 1", (1, 0, 4, 4), r"only the batch may be empty, got .* \(1, 0, 4, 4\)"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Pooling" pooling_param {{ {fields} }}', shape)


def test_the_number_of_axes_cannot_change(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Pooling" pooling_param { kernel_size: 2 }', (1, 1, 4, 4))
    with pytest.raises(NetError, match="was made for 2 spatial axes, got a bottom of shape"):
        layer.top_shapes((1, 1, 4))


def test_only_max_has_a_mask(make_layer: LayerMaker) -> None:
    text = 'type: "Pooling" top: "y" top: "mask" pooling_param { pool: AVE kernel_size: 2 }'
    with pytest.raises(NetError, match="only MAX pooling has a second top"):
        make_layer(text, (1, 1, 4, 4))


@pytest.mark.parametrize(
    ("fields", "kernel", "stride", "pad", "up"),
    [
        ("kernel_size: 3 stride: 2 pad: 1", (3, 3), (2, 2), (1, 1), True),
        ("kernel_size: 3 stride: 2 pad: 1 ceil_mode: false", (3, 3), (2, 2), (1, 1), False),
        ("kernel_size: 4 stride: 3 pad: 3", (4, 4), (3, 3), (3, 3), True),
        ("kernel_h: 2 kernel_w: 3 stride: 2 pad_w: 2", (2, 3), (2, 2), (0, 2), True),
        ("kernel_size: 2 stride: 3", (2, 2), (3, 3), (0, 0), True),
    ],
)
@pytest.mark.parametrize("shape", [(2, 2, 5, 6), (1, 1, 7, 4)])
def test_an_average_of_the_images_pixels(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    up: bool,
    shape: Shape,
) -> None:
    text = f'type: "Pooling" pooling_param {{ pool: AVE avg_include_pad: false {fields} }}'
    layer = make_layer(text, shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    for n, c, *at in product(*map(range, y.shape)):
        start = [at[a] * stride[a] - pad[a] for a in (0, 1)]
        pixels = [
            x[n, c, h, w]
            for h in range(max(0, start[0]), min(start[0] + kernel[0], shape[2]))
            for w in range(max(0, start[1]), min(start[1] + kernel[1], shape[3]))
        ]
        wanted = sum(pixels) / len(pixels) if pixels else 0.0
        assert y[n, c, *at] == pytest.approx(wanted, rel=1e-12, abs=1e-14)  # double precision
    check_gradient(layer, x)


def test_time_has_a_window_of_its_own(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    fields = "kernel_size: 2 stride: 2 kernel_depth: 3 temporal_stride: 1"
    layer = make_layer(f'type: "Pooling" pooling_param {{ {fields} }}', (1, 2, 4, 4, 4))
    x = spread(1, 2, 4, 4, 4)
    (y,) = run(layer, x)
    np.testing.assert_array_equal(y, pool(x, "MAX", (3, 2, 2), (1, 2, 2), (0, 0, 0), True)[0])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 2 kernel_shape { dim: 2 }", "either kernel_size or kernel_shape, not both"),
        ("global_pooling: true kernel_shape { dim: 2 }", "give no kernel size"),
        ("global_pooling: true kernel_depth: 2", "give no kernel size"),
        ("global_pooling: true pad_shape { dim: 1 }", "pad must be 0"),
        ("global_pooling: true temporal_stride: 2", "stride must be 1"),
        (
            "kernel_size: 2 bin_size: 3",
            "bin_size } is an option of a fork that this layer does not",
        ),
    ],
)
def test_windows_of_forks_refused(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Pooling" pooling_param {{ {fields} }}', (1, 1, 4, 4))


def pool_with_sides(x: Array, kernel: int, stride: int, sides: Shape, method: str) -> list[Array]:
    """Windows of an image whose four sides (above, below, left, right) are padded by themselves, as
    Synopsys' loops take them, and the mask."""
    height, width = x.shape[2:]
    befores, afters = sides[::2], sides[1::2]
    out = []
    for size, before, after in zip((height, width), befores, afters, strict=True):
        n = ceil((size + before + after - kernel) / stride) + 1
        out.append(n - 1 if any(sides) and (n - 1) * stride >= size + before else n)
    y, mask = np.zeros((*x.shape[:2], *out)), np.full((*x.shape[:2], *out), -1.0)
    for n, c, i, j in np.ndindex(*y.shape):
        top, left = i * stride - befores[0], j * stride - befores[1]
        end = (min(top + kernel, height + afters[0]), min(left + kernel, width + afters[1]))
        rows = range(max(top, 0), min(end[0], height))
        columns = range(max(left, 0), min(end[1], width))
        pixels = [(r, q) for r in rows for q in columns]
        values = [x[n, c, r, q] for r, q in pixels]
        if method == "MAX":
            y[n, c, i, j] = max(values, default=LOWEST)
            if values:
                r, q = pixels[int(np.argmax(values))]
                mask[n, c, i, j] = r * width + q
        else:
            area = (end[0] - top) * (end[1] - left) if method == "AVE" else max(len(values), 1)
            y[n, c, i, j] = sum(values) / area
    return [y, mask]


@pytest.mark.parametrize("method", ["MAX", "AVE", "inside", "AVE_EXC_PAD"])
@pytest.mark.parametrize("sides", [(1, 0, 0, 1), (0, 2, 2, 1), (0, 1, 0, 1), (2, 1, 0, 0)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (3, 1), (3, 3)])
def test_sides_padded_by_themselves(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    method: str,
    sides: Shape,
    kernel: int,
    stride: int,
) -> None:
    given = " ".join(f"pad_{side}: {n}" for side, n in zip("tblr", sides, strict=True))
    how = {"inside": "pool: AVE avg_include_pad: false"}.get(method, f"pool: {method}")
    fields = f"{how} kernel_size: {kernel} stride: {stride} {given}"
    tops = 'top: "y" top: "mask"' if method == "MAX" else ""
    x = spread(2, 2, 6, 8)
    layer = make_layer(f'type: "Pooling" {tops} pooling_param {{ {fields} }}', x.shape)
    found = run(layer, x)
    method = "inside" if method == "AVE_EXC_PAD" else method
    wanted = pool_with_sides(x, kernel, stride, sides, method)
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12)  # double precision
    if method == "MAX":
        np.testing.assert_array_equal(found[1], wanted[1])
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("kernel_size: 3 pad: 1 pad_l: 1", "give either pad or pad_t, pad_b, pad_l and pad_r"),
        ("kernel_size: 2 pad_b: 2", "pad_h must be < kernel_h, got pad_h=2"),
        ("kernel_size: 3 stride: 2 pad_type: 1", "write pad_t: 0 pad_b: 1 pad_l: 1 pad_r: 1 in"),
        ("global_pooling: true pad_t: 1", "with global_pooling pad must be 0"),
    ],
)
def test_sides_that_cannot_be(make_layer: LayerMaker, fields: str, told: str) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(f'type: "Pooling" pooling_param {{ {fields} }}', (1, 1, 8, 9))


def test_two_names_of_an_average_without_padding(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    x = spread(1, 2, 5, 5)
    text = 'type: "Pooling" pooling_param { pool: %s kernel_size: 3 pad: 1 }'
    wanted = run(make_layer(text % "AVE avg_include_pad: false", x.shape), x)[0]
    for name in ("AVE_EXC_PAD", "AVE_TF"):
        np.testing.assert_array_equal(run(make_layer(text % name, x.shape), x)[0], wanted)
