from __future__ import annotations

from itertools import product
from math import ceil, floor
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from moka.errors import NetError
from moka.layers.resize import ResizeNearestNeighbor

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Array, Shape


def aligned(x: Array, height: int, width: int) -> Array:
    """Bilinear, pixel by pixel; the corner pixels of x (N, C, H, W) stay in place."""
    y = np.zeros((*x.shape[:2], height, width))
    for i, j in product(range(height), range(width)):
        h = i * (x.shape[2] - 1) / (height - 1) if height > 1 else 0.0
        w = j * (x.shape[3] - 1) / (width - 1) if width > 1 else 0.0
        for a, b in product((floor(h), floor(h) + 1), (floor(w), floor(w) + 1)):
            share = (1 - abs(h - a)) * (1 - abs(w - b))
            if share > 0:
                a, b = min(a, x.shape[2] - 1), min(b, x.shape[3] - 1)
                y[:, :, i, j] += share * x[:, :, a, b]
    return y


INTERP = [
    # fields, bottom, cut at the beginning, at the end, size
    ("height: 9 width: 12", (2, 3, 4, 5), 0, 0, (9, 12)),
    ("height: 4 width: 6", (1, 3, 9, 13), 0, 0, (4, 6)),
    ("height: 1 width: 3", (1, 2, 4, 4), 0, 0, (1, 3)),
    ("height: 5 width: 5", (1, 1, 1, 3), 0, 0, (5, 5)),
    ("height: 4 width: 4", (1, 2, 4, 4), 0, 0, (4, 4)),
    ("zoom_factor: 3", (1, 4, 3, 5), 0, 0, (7, 13)),
    ("zoom_factor: 1", (1, 2, 3, 5), 0, 0, (3, 5)),
    ("zoom_factor: 2 height: 3 width: 3", (1, 2, 4, 5), 0, 0, (7, 9)),
    ("shrink_factor: 2", (1, 2, 9, 11), 0, 0, (5, 6)),
    ("shrink_factor: 2", (1, 2, 8, 10), 0, 0, (4, 5)),
    ("shrink_factor: 4 zoom_factor: 2", (1, 2, 9, 13), 0, 0, (5, 7)),
    ("shrink_factor: 2 zoom_factor: 2 height: 3 width: 2", (1, 2, 9, 13), 0, 0, (3, 2)),
    ("height: 7 width: 11 pad_beg: -1 pad_end: -2", (1, 3, 8, 9), 1, 2, (7, 11)),
    ("zoom_factor: 2 pad_end: -1", (1, 2, 4, 5), 0, 1, (5, 7)),
    ("height: 0 width: 0 zoom_factor: 2", (1, 1, 2, 2), 0, 0, (3, 3)),
    ("full_zoom_factor: 3 pad_beg: -1", (1, 2, 4, 3), 1, 0, (9, 6)),
    ("full_zoom_factor: 3 zoom_factor: 2", (1, 2, 4, 3), 0, 0, (7, 5)),
    ("full_zoom_factor: 3 height: 5 width: 4", (1, 2, 4, 3), 0, 0, (5, 4)),
]


@pytest.mark.parametrize(("fields", "shape", "first", "last", "size"), INTERP)
def test_interp(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    first: int,
    last: int,
    size: tuple[int, int],
) -> None:
    layer = make_layer(f'type: "Interp" interp_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    cut = x[:, :, first : shape[2] - last, first : shape[3] - last]
    np.testing.assert_allclose(y, aligned(cut, *size), rtol=1e-11, atol=1e-12)  # double precision
    check_gradient(layer, x)


def test_a_blob_gives_the_size(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x, other = spread(1, 2, 3, 4), np.zeros((2, 1, 5, 6))
    layer = make_layer('type: "Interp"', x.shape, other.shape)
    np.testing.assert_allclose(run(layer, x, other)[0], aligned(x, 5, 6), rtol=1e-11, atol=1e-12)
    check_gradient(layer, x, other)
    layer = make_layer('type: "Resample" resample_param { type: NEAREST }', x.shape, other.shape)
    assert run(layer, x, other)[0].shape == (1, 2, 5, 6)


@pytest.mark.parametrize(
    ("fields", "shapes", "size"),
    [
        ("", [(2, 1, 3, 4), (2, 2, 5, 2)], (5, 4)),
        ("top_height: 6 top_width: 7", [(1, 2, 4, 5), (1, 1, 3, 6)], (6, 7)),
        ("top_height: 6 top_width: 6", [(1, 2, 4, 5), (1, 1, 3, 6)], (4, 6)),
        ("top_height: 2 top_width: 2", [(1, 2, 4, 5)], (4, 5)),
        ("size_divisible_by: 4", [(1, 2, 5, 6), (1, 1, 3, 3)], (8, 8)),
        ("size_divisible_by: 4", [(1, 2, 4, 6)], (4, 6)),
        ("have_reference: true", [(1, 2, 4, 5), (1, 1, 2, 2), (3, 1, 3, 7)], (3, 7)),
    ],
)
def test_accum(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    fields: str,
    shapes: list[Shape],
    size: tuple[int, int],
) -> None:
    layer = make_layer(f'type: "Accum" accum_param {{ {fields} }}', *shapes)
    bottoms = [spread(*shape) for shape in shapes]
    (y,) = run(layer, *bottoms)
    joined = bottoms[:-1] if "reference" in fields else bottoms
    wanted = np.concatenate([aligned(x, *size) for x in joined], 1)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # double precision


def test_gradient_of_accum(
    make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread
) -> None:
    shapes = [(2, 1, 3, 4), (2, 2, 5, 2)]
    check_gradient(make_layer('type: "Accum"', *shapes), *(spread(*s) for s in shapes))


def kernel(kind: str, d: float) -> float:
    d = abs(d)
    if kind == "LINEAR":
        return max(0.0, 1 - d)
    if d <= 1:
        return 1.5 * d**3 - 2.5 * d**2 + 1
    return -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2 if d < 2 else 0.0


def resampled(x: Array, height: int, width: int, kind: str, antialias: bool) -> Array:
    """The weighted mean of the pixels around each center, as FlowNet2's loops do it."""
    scales = (x.shape[2] / height, x.shape[3] / width)
    y = np.zeros((*x.shape[:2], height, width))
    for i, j in product(range(height), range(width)):
        at = [i * scales[0] + scales[1] / 2 - 0.5, j * scales[1] + scales[0] / 2 - 0.5]
        wide = scales if antialias and max(scales) > 1 else (1.0, 1.0)
        total = 0.0
        for a, b in product(range(x.shape[2]), range(x.shape[3])):
            weight = kernel(kind, (at[0] - a) / wide[0]) * kernel(kind, (at[1] - b) / wide[1])
            y[:, :, i, j] += weight * x[:, :, a, b]
            total += weight
        y[:, :, i, j] /= total or 1
    return y


@pytest.mark.parametrize("kind", ["LINEAR", "CUBIC"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1, 2, 4, 5), (8, 10)),
        ((2, 1, 3, 4), (9, 8)),
        ((1, 2, 6, 9), (3, 3)),
        ((1, 1, 7, 5), (3, 8)),
        ((1, 1, 7, 5), (3, 17)),
        ((1, 1, 4, 4), (4, 4)),
        ((1, 1, 3, 2), (1, 1)),
    ],
)
def test_resample(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    antialias: bool,
    shape: Shape,
    size: tuple[int, int],
) -> None:
    fields = f"height: {size[0]} width: {size[1]} type: {kind} antialias: {str(antialias).lower()}"
    layer = make_layer(f'type: "Resample" resample_param {{ {fields} }}', shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    wanted = resampled(x, *size, kind, antialias)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # double precision
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "rows", "columns"),
    [
        ("height: 6 width: 8", [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 3, 3]),
        ("height: 1 width: 2", [1], [1, 3]),
        ("height: 4 width: 3", [0, 1, 2, 2], [0, 1, 3]),
        ("height: 9 width: 1", [2] * 9, [0]),
        ("factor: 2", [0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 2, 3, 3]),
        ("factor: 0.5", [1], [1, 3]),
        ("", [0, 1, 2], [0, 1, 2, 3]),
    ],
)
def test_nearest_pixels(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    rows: list[int],
    columns: list[int],
) -> None:
    layer = make_layer(
        f'type: "Resample" resample_param {{ type: NEAREST {fields} }}', (1, 2, 3, 4)
    )
    x = spread(1, 2, 3, 4)
    (y,) = run(layer, x)
    np.testing.assert_array_equal(y, x[:, :, rows][:, :, :, columns])
    check_gradient(layer, x)


def shrunk(x: Array, height: int, width: int) -> Array:
    """FlowNet2's loops: a triangle around each output pixel, without the values that are NaN."""
    steps = ((x.shape[2] - 1) / (height - 1), (x.shape[3] - 1) / (width - 1))
    y = np.zeros((*x.shape[:2], height, width))
    for n, c, i, j in np.ndindex(*y.shape):
        h, w = i * steps[0], j * steps[1]
        total = weight = unknown = 0.0
        for a in range(max(0, floor(h - ceil(steps[0]))), min(x.shape[2], ceil(h + steps[0]) + 1)):
            for b in range(max(0, floor(w - ceil(steps[1]))), x.shape[3]):
                share = max(0.0, 1 - abs(a - h) / steps[0]) * max(0.0, 1 - abs(b - w) / steps[1])
                if np.isnan(x[n, c, a, b]):
                    unknown += share
                else:
                    total += share * x[n, c, a, b]
                    weight += share
        bad = not weight or unknown / weight > 0.5
        y[n, c, i, j] = np.nan if bad else total / weight
    return y


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 2, 9, 9), (3, 3)), ((2, 1, 8, 11), (3, 4)), ((1, 1, 5, 6), (5, 2))]
)
@pytest.mark.parametrize("unknown", [0, 5, 25])
def test_downsample(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    shape: Shape,
    size: tuple[int, int],
    unknown: int,
) -> None:
    fields = f"top_height: {size[0]} top_width: {size[1]}"
    layer = make_layer(f'type: "Downsample" downsample_param {{ {fields} }}', shape)
    x = spread(*shape)
    x.flat[np.random.default_rng(4).permutation(x.size)[:unknown]] = np.nan
    (y,) = run(layer, x)
    np.testing.assert_allclose(y, shrunk(x, *size), rtol=1e-11, atol=1e-12)  # double precision


def test_downsample_to_the_same_size(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    x = spread(1, 2, 3, 4)
    x[0, 0, 1, 1] = np.nan
    layer = make_layer('type: "Downsample"', x.shape, (9, 9, 3, 4))
    np.testing.assert_array_equal(run(layer, x, np.zeros((9, 9, 3, 4)))[0], x)


def slow_deephi(plane: np.ndarray, height: int, width: int, kind: str) -> np.ndarray:
    """One image (H, W), pixel by pixel."""
    y = np.zeros((height, width))
    h, w = plane.shape
    for i, j in product(range(height), range(width)):
        if kind == "NEAREST":
            y[i, j] = plane[i * h // height, j * w // width]
            continue
        row = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
        column = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
        for a, b in product(range(h), range(w)):
            share = max(0, 1 - abs(row - a)) * max(0, 1 - abs(column - b))
            y[i, j] += share * plane[a, b]
    return y


@pytest.mark.parametrize("kind", ["BILINEAR", "NEAREST"])
@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("new_height: 3 new_width: 8", (3, 8)),
        ("scale_h: 2 scale_w: 2", (8, 10)),
        ("scale_h: 0.3 scale_w: 1.7", (1, 8)),
        ("new_height: 4 new_width: 5", (4, 5)),
    ],
)
def test_deephi_resize(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    check_gradient: GradientCheck,
    kind: str,
    fields: str,
    size: tuple[int, int],
) -> None:
    x = spread(2, 2, 4, 5)
    more = f"resize_type: {kind}" if kind == "NEAREST" else ""
    layer = make_layer(f'type: "DeephiResize" deephi_resize_param {{ {fields} {more} }}', x.shape)
    want = [[slow_deephi(plane, *size, kind) for plane in planes] for planes in x]
    (have,) = run(layer, x)
    np.testing.assert_allclose(have, want, atol=1e-12)
    way = cv2.INTER_LINEAR if kind == "BILINEAR" else cv2.INTER_NEAREST
    np.testing.assert_allclose(have[0, 0], cv2.resize(x[0, 0], size[::-1], interpolation=way))
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "Interp"', [(1, 1, 3, 3)], "needs height and width, zoom_factor or shrink_factor"),
        ('type: "Interp" interp_param { height: 3 }', [(1, 1, 3, 3)], "needs height and width"),
        (
            'type: "Interp" interp_param { zoom_factor: 2 pad_beg: -3 }',
            [(1, 1, 3, 3)],
            r"leave nothing of an image of \(3, 3\)",
        ),
        ('type: "Interp" interp_param { pad_beg: 1 }', [(1, 1, 3, 3)], "pad_beg must be <= 0"),
        (
            'type: "Interp" interp_param { zoom_factor: 0 }',
            [(1, 1, 3, 3)],
            "zoom_factor must be > 0",
        ),
        ('type: "Interp" interp_param { zoom_factor: 2 }', [(1, 3, 3)], "takes images"),
        (
            'type: "Accum" accum_param { have_reference: true }',
            [(1, 1, 3, 3)],
            "at least two bottoms",
        ),
        ('type: "Accum"', [(1, 1, 3, 3), (2, 1, 3, 3)], "differ in their number of items"),
        ('type: "Resample" resample_param { type: AREA }', [(1, 1, 3, 3)], "AREA is not supported"),
        ('type: "Resample" resample_param { width: 3 }', [(1, 1, 3, 3)], "both height and width"),
        ('type: "Resample" resample_param { factor: 0.25 }', [(1, 1, 3, 3)], "without pixels"),
        ('type: "Downsample"', [(1, 1, 3, 3)], r"at least 2 and at most the map's, \(3, 3\)"),
        (
            'type: "Downsample" downsample_param { top_height: 4 top_width: 3 }',
            [(1, 1, 3, 3)],
            r"got \(4, 3\)",
        ),
        ('type: "DeephiResize"', [(1, 1, 3, 3)], "needs new_height and new_width, or scale_h"),
        (
            'type: "DeephiResize" deephi_resize_param { new_height: 3 }',
            [(1, 1, 3, 3)],
            "new_height and new_width should be set at the same time",
        ),
        (
            'type: "DeephiResize" deephi_resize_param { scale_w: 3 }',
            [(1, 1, 3, 3)],
            "scale_h and scale_w should be set at the same time",
        ),
        (
            'type: "DeephiResize" deephi_resize_param { scale_h: 0.3 scale_w: 1 }',
            [(1, 1, 3, 3)],
            r"without pixels, \(0, 3\)",
        ),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def resized(x: Array, size: Shape, place: Callable[[int, int, int], float]) -> Array:
    """Bilinear, pixel by pixel, of x (N, C, H, W).

    Args:
        place: where output pixel i lies in the input, of (i, in, out).
    """
    y = np.zeros((*x.shape[:2], *size))
    for i, j in product(range(size[0]), range(size[1])):
        h = min(max(place(i, x.shape[2], size[0]), 0), x.shape[2] - 1)
        w = min(max(place(j, x.shape[3], size[1]), 0), x.shape[3] - 1)
        a, b = floor(h), floor(w)
        c, d = min(a + 1, x.shape[2] - 1), min(b + 1, x.shape[3] - 1)
        above = x[:, :, a, b] + (x[:, :, a, d] - x[:, :, a, b]) * (w - b)
        below = x[:, :, c, b] + (x[:, :, c, d] - x[:, :, c, b]) * (w - b)
        y[:, :, i, j] = above + (below - above) * (h - a)
    return y


PLACES: dict[str, Callable[[int, int, int], float]] = {
    "": lambda i, n, m: i * n / m,
    "align_corners: true": lambda i, n, m: i * (n - 1) / (m - 1) if m > 1 else 0.0,
    "half_pixel_centers: true": lambda i, n, m: (i + 0.5) * n / m - 0.5,
    "pytorch_half_pixel: true": lambda i, n, m: (i + 0.5) * n / m - 0.5 if m > 1 else 0.0,
}


@pytest.mark.parametrize("rule", PLACES)
@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
@pytest.mark.parametrize("size", [(7, 9), (2, 3), (1, 4), (5, 1)])
def test_resize_bilinear(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    rule: str,
    order: str,
    size: Shape,
) -> None:
    images = spread(1, 2, 4, 5)
    wanted = resized(images, size, PLACES[rule])
    x = images
    if order == "NHWC":
        x, wanted = images.transpose(0, 2, 3, 1), wanted.transpose(0, 2, 3, 1)
    given = "" if order == "NHWC" else f'data_format: "{order}"'
    fields = f"output_height: {size[0]} output_width: {size[1]} {given} {rule}"
    layer = make_layer(f'type: "ResizeBilinear" resize_bilinear_param {{ {fields} }}', x.shape)
    np.testing.assert_allclose(run(layer, x)[0], wanted, rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


def test_resize_bilinear_by_scales(make_layer: LayerMaker) -> None:
    fields = 'scale_height: 1.5 output_width: 3 data_format: "NCHW"'
    layer = make_layer(f'type: "ResizeBilinear" resize_bilinear_param {{ {fields} }}', (1, 2, 5, 6))
    assert layer.first_top_shapes == [(1, 2, 7, 3)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ('data_format: "NCHWD"', "data_format must be NHWC or NCHW, got NCHWD"),
        ("align_corners: true half_pixel_centers: true", "either align_corners or half_pixel"),
        ("half_pixel_centers: true pytorch_half_pixel: true", "either half_pixel_centers or"),
        ("scale_height: 0.1", "makes an image without pixels"),
        ("output_width: 0", "output_width must be > 0"),
    ],
)
def test_resize_bilinear_refuses(make_layer: LayerMaker, fields: str, told: str) -> None:
    with pytest.raises(NetError, match=told):
        make_layer(f'type: "ResizeBilinear" resize_bilinear_param {{ {fields} }}', (1, 4, 5, 2))


NEAREST: dict[str, Callable[[int, int, int], int]] = {
    "": lambda i, n, m: i * n // m,
    "align_corners: true": lambda i, n, m: (
        (2 * i * (n - 1) + m - 1) // (2 * (m - 1)) if m > 1 else 0
    ),
    "half_pixel_centers: true": lambda i, n, m: (2 * i + 1) * n // (2 * m),
}


@pytest.mark.parametrize("rule", NEAREST)
@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
@pytest.mark.parametrize("size", [(8, 10), (2, 5), (1, 1), (7, 4)])
def test_resize_nearest_neighbor(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    rule: str,
    order: str,
    size: Shape,
) -> None:
    images = spread(1, 2, 4, 5)
    rows, columns = (
        [NEAREST[rule](i, n, m) for i in range(m)] for n, m in zip((4, 5), size, strict=True)
    )
    wanted = images[:, :, rows][:, :, :, columns]
    x = images
    if order == "NHWC":
        x, wanted = images.transpose(0, 2, 3, 1), wanted.transpose(0, 2, 3, 1)
    fields = f'output_height: {size[0]} output_width: {size[1]} data_format: "{order}" {rule}'
    layer = make_layer(
        f'type: "ResizeNearestNeighbor" resize_nearest_neighbor_param {{ {fields} }}', x.shape
    )
    np.testing.assert_array_equal(run(layer, x)[0], wanted)
    check_gradient(layer, x)


def test_nearest_pixels_in_single_precision(make_layer: LayerMaker) -> None:
    """As in the fork: a place that is a whole number may be rounded to just below it."""
    fields = 'output_height: 47 output_width: 1 data_format: "NCHW"'
    text = f'type: "ResizeNearestNeighbor" resize_nearest_neighbor_param {{ {fields} }}'
    layer = make_layer(text, (1, 1, 94, 1))
    assert isinstance(layer, ResizeNearestNeighbor)
    rows, _ = layer.maps((1, 1, 94, 1))
    assert rows.tolist() == list(range(0, 94, 2))
    rows, _ = layer.maps((1, 1, 9, 1))
    steps = np.arange(47, dtype=np.float32) * np.float32(9 / 47)
    assert rows.tolist() == np.floor(steps).astype(int).tolist()


def test_resizing_in_place(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"(?i)in.place"):
        make_layer('type: "ResizeBilinear" bottom: "x" top: "x"', (1, 2, 3, 4))
