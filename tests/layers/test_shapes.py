from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.shapes import (
    as_rows,
    by,
    canonical_axis,
    refuse_empty_axes,
    require_axes,
    shape_text,
    sizes_around,
    times,
)
from moka.types import Shape

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner


@pytest.mark.parametrize(
    ("axis", "shape", "extra", "expected"),
    [(0, (2, 3), 0, 0), (-1, (2, 3), 0, 1), (-2, (2, 3), 0, 0), (2, (2, 3), 1, 2), (0, (), 1, 0)],
)
def test_canonical_axis(axis: int, shape: Shape, extra: int, expected: int) -> None:
    assert canonical_axis(axis, shape, extra=extra) == expected


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3)), (-3, (2, 3)), (0, ())])
def test_an_axis_that_does_not_exist(axis: int, shape: Shape) -> None:
    with pytest.raises(NetError, match=f"axis {axis} does not exist in a blob of shape"):
        canonical_axis(axis, shape)


@pytest.mark.parametrize(
    ("shape", "text"), [((64, 1, 28, 28), "64 1 28 28 (50176)"), ((), "(1)"), ((5,), "5 (5)")]
)
def test_shape_text(shape: Shape, text: str) -> None:
    assert shape_text(shape) == text


def test_sizes_around_an_axis() -> None:
    assert sizes_around((2, 3, 4, 5), -2) == (6, 4, 5)
    assert sizes_around((2,), 0) == (1, 2, 1)


def test_rows() -> None:
    assert as_rows(torch.ones(2, 3, 4)).shape == (2, 12)
    assert as_rows(torch.ones(2)).shape == (2, 1)


def test_checks() -> None:
    with pytest.raises(NetError, match=r"takes bottoms of at least 2 axes, got shape \(3,\)"):
        require_axes(2, (1, 2), (3,))
    with pytest.raises(NetError, match="only the batch may be empty"):
        refuse_empty_axes((1, 0), first=1)
    refuse_empty_axes((0, 1), first=1)


def test_sizes_in_words() -> None:
    assert by((7, 5)) == "7 x 5"
    assert by([3]) == "3"


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ('"Softmax" softmax_param { axis: -1 }', [(2, 3, 2)], [(4, 3)]),
        ('"Flatten" flatten_param { axis: -2 }', [(2, 3, 4)], [(2, 3, 4, 5)]),
        ('"Flatten"', [(2, 3, 4)], [(4, 5)]),
        ('"Tile" tile_param { axis: -1 tiles: 2 }', [(2, 3)], [(2, 3, 4)]),
        ('"Slice" slice_param { axis: -1 }', [(2, 4)], [(3, 4, 6)]),
        ('"Concat" concat_param { axis: -1 }', [(2, 4), (2, 1)], [(3, 4, 1), (3, 4, 5)]),
        ('"Crop" crop_param { axis: -1 offset: 1 }', [(2, 5), (2, 3)], [(2, 4, 6), (1, 1, 5)]),
        ('"Reduction" reduction_param { axis: -1 }', [(2, 3)], [(4, 5, 6)]),
        ('"ArgMax" argmax_param { axis: -1 }', [(2, 3)], [(4, 2, 3)]),
        ('"Scale" scale_param { axis: -1 }', [(2, 3)], [(4, 5, 3)]),
        ('"Bias" bias_param { axis: -1 }', [(2, 3), (3,)], [(4, 5, 2), (2,)]),
        ('"Bias"', [(2, 3), ()], [(2, 3), (3,)]),
        ('"InnerProduct" inner_product_param { num_output: 2 axis: -1 }', [(2, 3, 4)], [(5, 4)]),
        ('"Accuracy" accuracy_param { axis: -1 }', [(3, 4), (3,)], [(2, 5, 4), (2, 5)]),
        ('"SoftmaxWithLoss" softmax_param { axis: -1 }', [(3, 4), (3,)], [(2, 5, 4), (2, 5)]),
        (
            '"InfogainLoss" infogain_loss_param { axis: -1 }',
            [(3, 4), (3,), (4, 4)],
            [(2, 5, 3), (2, 5), (3, 3)],
        ),
    ],
)
def test_an_axis_is_counted_anew_in_each_shape(
    make_layer: LayerMaker,
    run: Runner,
    text: str,
    before: list[tuple[int, ...]],
    after: list[tuple[int, ...]],
) -> None:
    tops = 'top: "a" top: "b"' if "Slice" in text else ""
    layer = make_layer(f"type: {text} {tops}", *before)
    fresh = make_layer(f"type: {text} {tops}", *after)
    fresh.load_state_dict(layer.state_dict())
    assert layer.top_shapes(*after) == fresh.top_shapes(*after)
    bottoms = [np.arange(np.prod(shape)).reshape(shape) % 3 for shape in after]
    for have, want in zip(run(layer, *bottoms), run(fresh, *bottoms), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize(
    "text",
    [
        'type: "Resample" resample_param { factor: 0.7 }',
        'type: "DeephiResize" deephi_resize_param { scale_h: 0.7 scale_w: 0.7 }',
        'type: "ResizeBilinear" resize_bilinear_param { scale_height: 0.7 scale_width: 0.7'
        ' data_format: "NCHW" }',
    ],
)
def test_sizes_are_computed_in_single_precision(make_layer: LayerMaker, text: str) -> None:
    """10 * 0.7 is 7 in C++; 0.7 as a field of type float is a little less in double precision."""
    assert times(10, np.float32(0.7).item()) == 7
    assert make_layer(text, (1, 1, 10, 10)).top_shapes((1, 1, 10, 10)) == [(1, 1, 7, 7)]


def test_enlarged_sizes_are_computed_in_single_precision(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Upsample" upsample_param { scale: 3.3 }', (1, 1, 10, 10))
    assert layer.top_shapes((1, 1, 10, 10)) == [(1, 1, 33, 33)]
