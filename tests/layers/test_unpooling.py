from __future__ import annotations

from itertools import product
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.unpooling import max_unpooling
from moka.net.build import build_net
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Array, Shape


def by_mask(x: Array, mask: Array, height: int, width: int) -> Array:
    """Value after value to its index, as SegNet's loop does it."""
    y = np.zeros((*x.shape[:2], height * width))
    for n, c, h, w in np.ndindex(*x.shape):
        if mask[n, c, h, w] >= 0:
            y[n, c, int(mask[n, c, h, w])] = x[n, c, h, w]
    return y.reshape(*x.shape[:2], height, width)


@pytest.mark.parametrize(
    ("fields", "shape", "size"),
    [
        ("scale: 2", (2, 3, 3, 4), (6, 8)),
        ("", (1, 2, 2, 2), (4, 4)),
        ("scale: 3", (1, 2, 2, 2), (6, 6)),
        ("scale_h: 2 scale_w: 3", (1, 2, 2, 2), (4, 6)),
        ("scale: 2 pad_out_h: true", (1, 2, 3, 3), (5, 6)),
        ("scale: 2 pad_out_h: true pad_out_w: true", (1, 2, 3, 3), (5, 5)),
        ("scale: 2 upsample_h: 7 upsample_w: 5", (1, 2, 3, 3), (7, 5)),
    ],
)
@pytest.mark.parametrize("overlap", [False, True])
def test_upsample_by_a_mask(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    size: tuple[int, int],
    overlap: bool,
) -> None:
    text = f'type: "Upsample" bottom: "x" bottom: "mask" upsample_param {{ {fields} }}'
    layer = make_layer(text, shape, shape)
    rng, area, count = np.random.default_rng(2), size[0] * size[1], shape[2] * shape[3]
    planes = [
        rng.integers(-1, 6, count) if overlap else rng.permutation(area)[:count]
        for _ in range(shape[0] * shape[1])
    ]
    mask = np.stack(planes).reshape(shape).astype(np.float64)
    x = spread(*shape)
    (y,) = run(layer, x, mask)
    np.testing.assert_array_equal(y, by_mask(x, mask, *size))
    if not overlap:
        check_gradient(layer, x, mask)
    given, dy = torch.tensor(x, requires_grad=True), spread(*y.shape)
    layer(given, torch.tensor(mask)).backward(torch.tensor(dy))
    flat = dy.reshape(*shape[:2], -1)
    assert given.grad is not None
    for n, c, h, w in np.ndindex(*shape):
        place = int(mask[n, c, h, w])
        assert given.grad[n, c, h, w] == (flat[n, c, place] if place >= 0 else 0)


def test_a_mask_beyond_the_image_is_refused() -> None:
    x = torch.ones(1, 1, 1, 2)
    with pytest.raises(DataError, match=r"the mask has the index 4, the image of 2 x 2 has 4"):
        max_unpooling(x, torch.tensor([[[[0.0, 4.0]]]]), 2, 2)


@pytest.mark.parametrize(
    ("fields", "factors", "times"),
    [
        ("scale: 2", (2, 2), 1),
        ("scale: 3", (3, 3), 1),
        ("scale: 1.5", (1.5, 1.5), 1),
        ("", (1, 1), 1),
        ("stride: 3", (3, 3), 1),
        ("scale: 0.5 stride: 2", (2, 2), 0.5),
        ("stride_h: 3 stride_w: 1", (3, 1), 1),
        ("stride_h: 3", (3, 2), 1),
    ],
)
def test_upsample_repeats_pixels(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    factors: tuple[float, float],
    times: float,
) -> None:
    layer = make_layer(f'type: "Upsample" upsample_param {{ {fields} }}', (2, 2, 3, 4))
    x = spread(2, 2, 3, 4)
    (y,) = run(layer, x)
    assert y.shape == (2, 2, int(3 * factors[0]), int(4 * factors[1]))
    for n, c, h, w in np.ndindex(*y.shape):
        assert y[n, c, h, w] == times * x[n, c, int(h / factors[0]), int(w / factors[1])]
    check_gradient(layer, x)


def unpooled(x: Array, method: str, kernel: Shape, stride: Shape, pad: Shape) -> Array:
    """Window after window, as ParseNet's loops do it."""
    size = [(x.shape[2 + a] - 1) * stride[a] - 2 * pad[a] + kernel[a] for a in (0, 1)]
    y, covers = np.zeros((*x.shape[:2], *size)), np.zeros(size)
    for at in product(range(x.shape[2]), range(x.shape[3])):
        start = [at[a] * stride[a] - pad[a] for a in (0, 1)]
        end = [min(start[a] + kernel[a], size[a] + pad[a]) for a in (0, 1)]
        value = x[:, :, at[0], at[1]]
        if method == "FIXED":
            middle = [min(max(int((start[a] + start[a] + kernel[a] - 1) / 2), 0), size[a] - 1)
                      for a in (0, 1)]  # fmt: skip
            y[:, :, middle[0], middle[1]] = value
            continue
        if method == "DIV":
            value = value / ((end[0] - start[0]) * (end[1] - start[1]))
        where = tuple(slice(max(start[a], 0), min(end[a], size[a])) for a in (0, 1))
        y[(slice(None), slice(None), *where)] += value[..., None, None]
        covers[where] += 1
    return y if method == "FIXED" else y / np.maximum(covers, 1)


@pytest.mark.parametrize("method", ["FIXED", "DIV", "REP"])
@pytest.mark.parametrize(
    ("fields", "kernel", "stride", "pad"),
    [
        ("out_kernel_size: 2 out_stride: 2", (2, 2), (2, 2), (0, 0)),
        ("out_kernel_size: 3 out_stride: 2 out_pad: 1", (3, 3), (2, 2), (1, 1)),
        ("out_kernel_size: 3", (3, 3), (1, 1), (0, 0)),
        ("out_kernel_size: 4 out_stride: 2 out_pad: 2", (4, 4), (2, 2), (2, 2)),
        ("out_kernel_size: 2 out_stride: 3", (2, 2), (3, 3), (0, 0)),
        (
            "out_kernel_h: 3 out_kernel_w: 2 out_stride_h: 2 out_stride_w: 1"
            " out_pad_h: 0 out_pad_w: 1",
            (3, 2),
            (2, 1),
            (0, 1),
        ),
    ],
)
@pytest.mark.parametrize("shape", [(2, 2, 3, 4), (1, 1, 2, 5)])
def test_unpooling(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    method: str,
    fields: str,
    kernel: Shape,
    stride: Shape,
    pad: Shape,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "UnPooling" unpooling_param {{ unpool: {method} {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = unpooled(x, method, kernel, stride, pad)
    np.testing.assert_allclose(y, wanted, rtol=1e-6, atol=1e-14)  # shares are single precision
    check_gradient(layer, x)


@pytest.mark.parametrize("reference", [(1, 1, 6, 8), (1, 1, 7, 5), (1, 1, 3, 4), (1, 1, 13, 9)])
def test_a_blob_gives_about_the_size(
    make_layer: LayerMaker, run: Runner, spread: Spread, reference: Shape
) -> None:
    x = spread(1, 2, 3, 4)
    layer = make_layer('type: "UnPooling" unpooling_param { unpool: REP }', x.shape, reference)
    (y,) = run(layer, x, np.zeros(reference))
    kernel = [ceil(m / n) for n, m in zip((3, 4), reference[2:], strict=True)]
    pad = [
        ((n - 1) * k + k - m) // 2 for n, k, m in zip((3, 4), kernel, reference[2:], strict=True)
    ]
    np.testing.assert_allclose(
        y, unpooled(x, "REP", (kernel[0], kernel[1]), (kernel[0], kernel[1]), (pad[0], pad[1])),
        rtol=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("upsample_param { upsample_h: 4 upsample_w: 4 }", [(1, 1, 2, 2)], "takes a second bottom"),
        ("upsample_param { stride: 2 }", [(1, 1, 2, 2)] * 2, "takes one bottom with these options"),
        (
            'bottom: "x" bottom: "m"',
            [(1, 1, 2, 2), (1, 1, 2, 1)],
            r"the shape of the first bottom, \(1, 1, 2, 2\), got",
        ),
        ("upsample_param { scale: 0.5 }", [(1, 1, 2, 2)], "the scale must be at least 1, got 0.5"),
        ("upsample_param { scale_h: 2 }", [(1, 1, 2, 2)] * 2, "give both scale_h and scale_w"),
        (
            "upsample_param { scale: 3 pad_out_h: true }",
            [(1, 1, 2, 2)] * 2,
            "need a scale of 2, got 3",
        ),
        ("", [(1, 2, 2)], "takes images"),
    ],
)
def test_upsample_refuses(
    make_layer: LayerMaker, text: str, shapes: list[Shape], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "Upsample" {text}', *shapes)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "out_kernel_size is missing"),
        ("out_kernel_h: 2", "give both out_kernel_h and out_kernel_w"),
        ("out_kernel_size: 2 out_kernel_h: 2", "either one out_kernel or out_kernel_h"),
        ("out_kernel_size: 2 out_pad: 2", "the pad must be < the kernel, got pad 2, kernel 2"),
        ("out_kernel_size: 0", "out_kernel_size must be > 0"),
    ],
)
def test_unpooling_refuses(make_layer: LayerMaker, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "UnPooling" unpooling_param {{ {fields} }}', (1, 1, 2, 2))


def test_unpooling_refuses_a_method_of_deconvnet(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="unpool must be FIXED, DIV or REP, got TILE"):
        make_layer(
            'type: "UnPooling" unpooling_param { unpool: TILE out_kernel_size: 2 }', (1, 1, 2, 2)
        )


def deconvnet(fields: str, *, mask: bool = False) -> str:
    bottoms = 'bottom: "x" bottom: "mask"' if mask else 'bottom: "x"'
    return f'type: "Unpooling" {bottoms} unpooling_param {{ {fields} }}'


@pytest.mark.parametrize("method", ["", "unpool: MAX"])
def test_deconvnet_puts_values_back_by_a_mask(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    method: str,
) -> None:
    shape = (2, 3, 3, 2)
    layer = make_layer(
        deconvnet(f"{method} kernel_size: 2 stride: 2 unpool_h: 6 unpool_w: 5", mask=True),
        shape,
        shape,
    )
    rng = np.random.default_rng(3)
    mask = np.stack([rng.permutation(30)[:6] for _ in range(6)]).reshape(shape).astype(np.float64)
    x = spread(*shape)
    np.testing.assert_array_equal(run(layer, x, mask)[0], by_mask(x, mask, 6, 5))
    check_gradient(layer, x, mask)


WINDOWS = [
    # fields, kernel, stride, size
    ("kernel_size: 2 stride: 2 unpool_size: 8", (2, 2), (2, 2), (8, 8)),
    ("kernel_size: 3 stride: 2 unpool_h: 6 unpool_w: 8", (3, 3), (2, 2), (6, 8)),
    ("kernel_h: 2 kernel_w: 3 unpool_size: 6", (2, 3), (1, 1), (6, 6)),
    ("kernel_size: 2 stride_h: 3 stride_w: 1 unpool_h: 5 unpool_w: 4", (2, 2), (3, 1), (5, 4)),
]


def by_windows(
    x: Array, method: str, kernel: Shape, stride: Shape, size: tuple[int, int]
) -> tuple[Array, Array]:
    """DeconvNet's loop over values, and the gradient of x where a pixel's is its index."""
    y, dx = np.zeros((*x.shape[:2], *size)), np.zeros_like(x)
    dy = np.arange(size[0] * size[1], dtype=np.float64).reshape(size)
    for n, c, i, j in np.ndindex(*x.shape):
        top, left = i * stride[0], j * stride[1]
        if method == "MAX":
            top, left = min(top, size[0] - 1), min(left, size[1] - 1)
            y[n, c, top, left] = x[n, c, i, j]
            dx[n, c, i, j] = dy[top, left]
            continue
        bottom, right = min(top + kernel[0], size[0]), min(left + kernel[1], size[1])
        area = (bottom - top) * (right - left)
        if area > 0 and bottom > top:
            y[n, c, top:bottom, left:right] += x[n, c, i, j] / (area if method == "AVE" else 1)
            dx[n, c, i, j] = dy[top:bottom, left:right].sum() / area
    return y, dx


@pytest.mark.parametrize("method", ["MAX", "AVE", "TILE"])
@pytest.mark.parametrize(("fields", "kernel", "stride", "size"), WINDOWS)
def test_deconvnet_spreads_values_over_windows(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    method: str,
    fields: str,
    kernel: Shape,
    stride: Shape,
    size: tuple[int, int],
) -> None:
    x = spread(2, 2, 3, 4)
    layer = make_layer(deconvnet(f"unpool: {method} {fields}"), x.shape)
    want, gradient = by_windows(x, method, kernel, stride, size)
    np.testing.assert_allclose(run(layer, x)[0], want, rtol=1e-6, atol=1e-12)  # single shares
    given = torch.tensor(x, requires_grad=True)
    y = layer(given)
    y.backward(torch.arange(y[0, 0].numel(), dtype=y.dtype).reshape(size).expand_as(y))
    assert given.grad is not None
    np.testing.assert_allclose(given.grad.numpy(), gradient, rtol=1e-6)


@pytest.mark.parametrize(
    ("fields", "mask", "message"),
    [
        ("unpool_size: 4", False, "kernel_size is missing"),
        ("kernel_size: 2", False, "unpool_size is missing"),
        ("kernel_size: 2 unpool_h: 4", False, "give both unpool_h and unpool_w"),
        ("kernel_size: 2 kernel_h: 2 unpool_size: 4", False, "give either kernel_size or kernel_h"),
        ("kernel_size: 2 unpool_size: 4 pad: 1", False, "padding is not supported"),
        ("kernel_size: 2 unpool_size: 4 pad_w: 1", False, "padding is not supported"),
        ("unpool: REP kernel_size: 2 unpool_size: 4", False, "must be MAX, AVE or TILE, got REP"),
        ("unpool: AVE kernel_size: 2 unpool_size: 4", True, "a mask with unpool: MAX only"),
        ("kernel_size: 2 unpool_size: 4", True, r"the mask must have the shape of the first"),
    ],
)
def test_deconvnet_unpooling_refuses(
    make_layer: LayerMaker, fields: str, *, mask: bool, message: str
) -> None:
    shapes = [(1, 1, 2, 2), (1, 1, 2, 1)][: 1 + mask]
    with pytest.raises(NetError, match=message):
        make_layer(deconvnet(fields, mask=mask), *shapes)


def test_an_unpooling_of_v1_is_that_of_its_message() -> None:
    text = """
    input: "x" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4
    layers { type: POOLING bottom: "x" top: "p" top: "mask" name: "p"
      pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
    layers { type: UNPOOLING bottom: "p" bottom: "mask" top: "y" name: "deconvnet"
      unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 4 } }
    layers { type: UNPOOLING bottom: "p" top: "z" name: "parsenet"
      unpooling_param { unpool: REP out_kernel_size: 2 out_stride: 2 } }
    """
    net = build_net(parse_text(text, caffe_pb2.NetParameter))
    assert [node.type for node in net.graph.nodes][-2:] == ["Unpooling", "UnPooling"]
    x = torch.rand(1, 2, 4, 4)
    tops = net(x=x)
    assert torch.equal(tops["y"], torch.where(tops["z"] == x, x, 0))
