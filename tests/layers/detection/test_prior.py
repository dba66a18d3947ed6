from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.detection.prior import CellBox

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

SHAPES = (1, 4, 2, 3), (1, 3, 40, 60)


def slow_priors(
    sizes: list[tuple[float, float]],
    step: tuple[float, float] = (20, 20),
    offset: float = 0.5,
    image: tuple[int, int] = (40, 60),
) -> list[float]:
    values = []
    for row in range(2):
        for column in range(3):
            cx, cy = (column + offset) * step[1], (row + offset) * step[0]
            for w, h in sizes:
                values += [(cx - w / 2) / image[1], (cy - h / 2) / image[0]]
                values += [(cx + w / 2) / image[1], (cy + h / 2) / image[0]]
    return values


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ("min_size: 8", [(8, 8)]),
        ("min_size: 8.9", [(8, 8)]),  # whole pixels
        ("min_size: 8.9 fractional_sizes: true", [(8.9, 8.9)]),
        ("min_size: 8 max_size: 18", [(8, 8), (12, 12)]),
        (
            "min_size: 8.5 max_size: 18.5 fractional_sizes: true",
            [(8.5, 8.5), (sqrt(8.5 * 18.5),) * 2],
        ),
        ("min_size: 8 aspect_ratio: 4", [(8, 8), (16, 4), (4, 16)]),
        ("min_size: 8 aspect_ratio: 4 flip: false", [(8, 8), (16, 4)]),
        ("min_size: 8 aspect_ratio: 1 aspect_ratio: 4 aspect_ratio: 0.25",
         [(8, 8), (16, 4), (4, 16)]),
        (
            "min_size: 8 min_size: 2 max_size: 18 max_size: 8 aspect_ratio: 4 flip: false",
            [(8, 8), (12, 12), (16, 4), (2, 2), (4, 4), (4, 1)],
        ),
    ],
)  # fmt: skip
def test_boxes_of_a_cell(
    make_layer: LayerMaker, fields: str, sizes: list[tuple[float, float]]
) -> None:
    layer = make_layer(f'type: "PriorBox" prior_box_param {{ {fields} }}', *SHAPES)
    top = layer(*map(torch.zeros, SHAPES))
    assert top.shape == layer.first_top_shapes[0] == (1, 2, 24 * len(sizes))
    np.testing.assert_allclose(top[0, 0], slow_priors(sizes), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(top[0, 1], 0.1)


@pytest.mark.parametrize(
    ("fields", "ratios"),
    [
        ("fixed_size: 15 density: 2 fixed_size: 8 density: 1", [1]),
        ("fixed_size: 15 density: 4 fixed_size: 8 density: 3 fixed_ratio: 4 fixed_ratio: 0.25",
         [4, 0.25]),
        ("fixed_size: 15 density: 2 fixed_size: 8 density: 3 aspect_ratio: 4", [1, 4, 0.25]),
    ],
)  # fmt: skip
def test_dense_boxes(make_layer: LayerMaker, fields: str, ratios: list[float]) -> None:
    densities = [int(text[0]) for text in fields.split("density: ")[1:]]
    want: list[list[float]] = []
    for row in range(2):
        for column in range(3):
            for size, density in zip((15, 8), densities, strict=True):
                apart = size // density
                for ratio in ratios:
                    for i, j in np.ndindex(density, density):
                        x = (column + 0.5) * 20 - size // 2 + apart / 2 + j * apart
                        y = (row + 0.5) * 20 - size // 2 + apart / 2 + i * apart
                        w, h = size * sqrt(ratio) / 2, size / sqrt(ratio) / 2
                        want.append([max(0, (x - w) / 60), max(0, (y - h) / 40),
                                     min(1, (x + w) / 60), min(1, (y + h) / 40)])  # fmt: skip
    layer = make_layer(f'type: "PriorBox" prior_box_param {{ {fields} }}', *SHAPES)
    top = layer(*map(torch.zeros, SHAPES))
    np.testing.assert_allclose(top[0, 0].view(-1, 4), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ("step: 7", {"step": (7, 7)}),
        ("step_h: 7 step_w: 5", {"step": (7, 5)}),
        ("step: 0", {}),
        ("offset: 0.25", {"offset": 0.25}),
        ("img_size: 80", {"image": (80, 80), "step": (40, 80 / 3)}),
        ("img_h: 20 img_w: 30", {"image": (20, 30), "step": (10, 10)}),
    ],
)
def test_where_the_centers_lie(
    make_layer: LayerMaker, fields: str, changes: dict[str, tuple[float, float]]
) -> None:
    text = f'type: "PriorBox" prior_box_param {{ min_size: 8 {fields} }}'
    top = make_layer(text, *SHAPES)(*map(torch.zeros, SHAPES))
    want = slow_priors([(8, 8)], **changes)  # type: ignore[arg-type]
    np.testing.assert_allclose(top[0, 0], want, rtol=1e-5, atol=1e-6)


def test_offsets_of_the_axes(make_layer: LayerMaker) -> None:
    fields = "width: 8 height: 4 offset_h: 0.25 offset_w: 0.75"
    layer = make_layer(f'type: "PriorBoxClustered" prior_box_param {{ {fields} }}', *SHAPES)
    boxes = layer(*map(torch.zeros, SHAPES))[0, 0].view(-1, 4)
    high = np.reshape(slow_priors([(8, 4)], offset=0.25), (-1, 4))
    right = np.reshape(slow_priors([(8, 4)], offset=0.75), (-1, 4))
    np.testing.assert_allclose(boxes[:, 1::2], high[:, 1::2], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(boxes[:, 0::2], right[:, 0::2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sizes", "places"),
    [
        (
            "min_size: 8 min_size: 3 aspect_ratio: 4 flip: false offset_w: 0.2 offset_w: 0.7"
            " offset_h: 0.1 offset_h: 0.5 offset_h: 0.9",
            [(16, 4), (6, 1.5)],
            [(0.2, 0.1), (0.2, 0.5), (0.2, 0.9), (0.7, 0.1), (0.7, 0.5), (0.7, 0.9)],
        ),
        (
            "min_size: 8 max_size: 18 aspect_ratio: 4 offset_w: 0.2 offset_w: 0.7 offset_h: 0.5",
            [(16, 4), (4, 16)],
            [(0.2, 0.5), (0.7, 0.5)],
        ),
        ("min_size: 8 aspect_ratio: 4 flip: false offset_w: 0.2 offset_h: 0.7", [(16, 4)],
         [(0.2, 0.7)]),
        ("min_size: 8 offset_w: 0.2 offset_h: 0.7", [(8, 8)], [(0.2, 0.7)]),
        ("min_size: 8 max_size: 18 aspect_ratio: 4 flip: false offset_w: 0.2 offset_h: 0.7",
         [(8, 8), (12, 12), (16, 4)], [(0.2, 0.7)]),
        ("min_size: 8 aspect_ratio: 4 flip: false offset_w: 0.2", [(8, 8), (16, 4)], [(0.2, 0.5)]),
        ("min_size: 8 offset_w: 0.2 offset_w: 0.4", [(8, 8)], [(0.2, 0.5), (0.4, 0.5)]),
    ],
)  # fmt: skip
def test_several_centers_in_a_cell(
    make_layer: LayerMaker,
    fields: str,
    sizes: list[tuple[float, float]],
    places: list[tuple[float, float]],
) -> None:
    """tl_ssd's form: around each center all sizes; without squares if both axes have offsets."""
    want = [
        [(cx - w / 2) / 60, (cy - h / 2) / 40, (cx + w / 2) / 60, (cy + h / 2) / 40]
        for row in range(2)
        for column in range(3)
        for cx, cy in (((column + x) * 20, (row + y) * 20) for x, y in places)
        for w, h in sizes
    ]
    layer = make_layer(f'type: "PriorBox" prior_box_param {{ {fields} }}', *SHAPES)
    top = layer(*map(torch.zeros, SHAPES))
    assert top.shape == layer.first_top_shapes[0]
    np.testing.assert_allclose(top[0, 0].view(-1, 4), want, rtol=1e-5, atol=1e-6)


def test_paired_offsets(make_layer: LayerMaker) -> None:
    """Each size around the first offsets of both axes, then around the second ones."""
    fields = "offset_w: 0.2 offset_w: 0.7 offset_h: 0.5 offset_h: 1 paired_offsets: true"
    text = (
        f'type: "PriorBox" prior_box_param {{ min_size: 8 aspect_ratio: 4 flip: false {fields} }}'
    )
    want = [
        [(cx - w / 2) / 60, (cy - h / 2) / 40, (cx + w / 2) / 60, (cy + h / 2) / 40]
        for row in range(2)
        for column in range(3)
        for w, h in [(8, 8), (16, 4)]
        for cx, cy in [
            ((column + 0.2) * 20, (row + 0.5) * 20),
            ((column + 0.7) * 20, (row + 1) * 20),
        ]
    ]
    layer = make_layer(text, *SHAPES)
    top = layer(*map(torch.zeros, SHAPES))
    assert top.shape == layer.first_top_shapes[0]
    np.testing.assert_allclose(top[0, 0].view(-1, 4), want, rtol=1e-5, atol=1e-6)


def test_a_map_without_cells(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "PriorBox" prior_box_param { min_size: 8 step: 4 }', *SHAPES)
    assert layer(torch.zeros(1, 4, 0, 3), torch.zeros(SHAPES[1])).shape == (1, 2, 0)


def test_clip_and_variances(make_layer: LayerMaker) -> None:
    fields = "min_size: 50 clip: true variance: 0.1 variance: 0.2 variance: 0.3 variance: 0.4"
    layer = make_layer(f'type: "PriorBox" prior_box_param {{ {fields} }}', *SHAPES)
    top = layer(*map(torch.zeros, SHAPES))
    np.testing.assert_allclose(top[0, 0], np.clip(slow_priors([(50, 50)]), 0, 1), atol=1e-6)
    np.testing.assert_allclose(top[0, 1].view(-1, 4), [[0.1, 0.2, 0.3, 0.4]] * 6)


def test_boxes_are_computed_once_for_a_shape(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "PriorBox" prior_box_param { min_size: 8 }', *SHAPES)
    first = layer(*map(torch.zeros, SHAPES))
    layer.sizes = [CellBox(1, 1)]  # type: ignore[assignment]
    assert torch.equal(layer(*map(torch.zeros, SHAPES)), first)
    first.zero_()  # the caller's copy
    assert layer(*map(torch.zeros, SHAPES)).any()
    other = ((1, 4, 1, 1), SHAPES[1])
    assert layer(*map(torch.zeros, other)).shape == layer.top_shapes(*other)[0] == (1, 2, 4)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("", "min_size is missing"),
        ("min_size: 0", "min_size must be > 0, got 0"),
        ("min_size: 4 aspect_ratio: 0", "aspect_ratio must be > 0, got 0"),
        ("min_size: 4 max_size: 4", "max_size must be larger than min_size, got 4 and 4"),
        ("min_size: 4 max_size: 5 max_size: 6", "as often as min_size, got 2 and 1"),
        ("min_size: 4 variance: 1 variance: 1", "once, or 4 times .* got 2 values"),
        ("min_size: 4 variance: 0", "variance must be > 0"),
        ("min_size: 4 img_size: 9 img_h: 3 img_w: 3", "either img_size or img_h"),
        ("min_size: 4 img_h: 3", "both img_h and img_w"),
        ("min_size: 4 step: 9 step_h: 3 step_w: 3", "either step or step_h"),
        ("min_size: 4 step_w: 3", "both step_h and step_w"),
        ("min_size: 4 width: 3", "belong to PriorBoxClustered"),
        (
            "min_size: 4 offset_w: 0.2 offset_w: 0.4 offset_h: 0.5",
            "need an aspect_ratio other than 1",
        ),
        (
            "min_size: 4 offset_w: 0.2 offset_w: 0.4 offset_h: 0.5 paired_offsets: true",
            "offset_w as often as offset_h, got 2 and 1 values",
        ),
        ("fixed_size: 4 density: 1 min_size: 3", "either min_size or fixed_size"),
        ("fixed_size: 4", "density must be given as often as fixed_size, got 0 and 1"),
        ("fixed_size: 4.5 density: 1", "fixed_size must be a whole number > 0, got 4.5"),
        ("fixed_size: 0 density: 1", "fixed_size must be a whole number > 0, got 0"),
    ],
)
def test_faults_of_prior_boxes(make_layer: LayerMaker, fields: str, fault: str) -> None:
    with pytest.raises(NetError, match=fault):
        make_layer(f'type: "PriorBox" prior_box_param {{ {fields} }}', *SHAPES)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("", "width and height must be given equally often, got 0 and 0"),
        ("width: 3 width: 4 height: 3", "got 2 and 1 values"),
        ("width: 3 height: 3 min_size: 4", "belong to PriorBox"),
        ("width: 3 height: 3 density: 4", "belong to PriorBox"),
        ("width: 3 height: 3 offset_w: 0.2 offset_w: 0.4", "must be given once each"),
    ],
)
def test_faults_of_clustered_boxes(make_layer: LayerMaker, fields: str, fault: str) -> None:
    with pytest.raises(NetError, match=fault):
        make_layer(f'type: "PriorBoxClustered" prior_box_param {{ {fields} }}', *SHAPES)


def test_flat_blobs_are_refused(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"takes blobs \(N, C, H, W\), got shape \(2, 3\)"):
        make_layer('type: "PriorBox" prior_box_param { min_size: 4 }', (2, 3), SHAPES[1])


def test_denser_boxes_stand_around_the_lower_edge_too(make_layer: LayerMaker) -> None:
    text = """type: "PriorBox" prior_box_param {
        min_size: 8 max_size: 18 aspect_ratio: 2 offset: 0.3 %s }"""
    plain, denser = (
        make_layer(text % more, *SHAPES)(*map(torch.zeros, SHAPES))
        for more in ("", "denser_prior_boxes: true")
    )
    assert denser.shape == (1, 2, 2 * plain.shape[2])
    boxes, twice = (t[0, 0].reshape(-1, 4) for t in (plain, denser))
    np.testing.assert_array_equal(twice[::2], boxes)
    rows, image = SHAPES[0][2], SHAPES[1][2]
    step = image / rows
    moved = boxes + torch.tensor([0, 1, 0, 1]) * (1.0 - 0.3) * step / image
    np.testing.assert_allclose(twice[1::2], moved, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(denser[0, 1], 0.1)
