"""Layers that choose parts of a blob or repeat them: Slice, Tile, Crop, BatchReindex, Filter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


def slice_text(tops: int, fields: str) -> str:
    names = " ".join(f'top: "y{k}"' for k in range(tops))
    return f'type: "Slice" {names} slice_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("fields", "shape", "axis", "sizes"),
    [
        ("", (2, 6, 2), 1, [2, 2, 2]),
        ("", (2, 6), 1, [6]),
        ("axis: 0", (4, 3), 0, [2, 2]),
        ("axis: -1", (2, 3, 4), 2, [2, 2]),
        ("slice_dim: 2", (2, 3, 4), 2, [2, 2]),
        ("slice_point: 1 slice_point: 4", (2, 6, 2), 1, [1, 3, 2]),
        ("axis: 0 slice_point: 4", (5, 2), 0, [4, 1]),
    ],
)
def test_slice(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    axis: int,
    sizes: list[int],
) -> None:
    layer = make_layer(slice_text(len(sizes), fields), shape)
    x = spread(*shape)
    tops = run(layer, x)
    assert [top.shape[axis] for top in tops] == sizes
    offset = 0
    for top in tops:
        for at in np.ndindex(*top.shape):
            assert top[at] == x[(*at[:axis], offset + at[axis], *at[axis + 1 :])]
        offset += top.shape[axis]
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("tops", "fields", "message"),
    [
        (2, "", r"Number of top blobs \(2\) should evenly divide input slice axis \(5\)"),
        (3, "slice_point: 2", "3 tops need 2 slice_points, got 1"),
        (3, "slice_point: 3 slice_point: 3", r"must rise within the axis \(5\)"),
        (3, "slice_point: 3 slice_point: 2", r"must rise within the axis \(5\)"),
        (2, "slice_point: 0", r"must rise within the axis \(5\)"),
        (2, "slice_point: 5", r"must rise within the axis \(5\)"),
        (5, "axis: 1 slice_dim: 0", "either axis or slice_dim, not both"),
        (1, "axis: 2", "axis 2 does not exist"),
    ],
)
def test_slice_refuses(make_layer: LayerMaker, tops: int, fields: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(slice_text(tops, fields), (2, 5))


@pytest.mark.parametrize(
    ("fields", "axis", "tiles"), [("tiles: 3", 1, 3), ("axis: 0 tiles: 2", 0, 2),
                                  ("axis: -1 tiles: 2", 2, 2), ("tiles: 1", 1, 1)]
)  # fmt: skip
def test_tile(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    axis: int,
    tiles: int,
) -> None:
    layer = make_layer(f'type: "Tile" tile_param {{ {fields} }}', (2, 3, 2))
    x = spread(2, 3, 2)
    (y,) = run(layer, x)
    assert y.shape[axis] == x.shape[axis] * tiles
    for at in np.ndindex(*y.shape):
        assert y[at] == x[(*at[:axis], at[axis] % x.shape[axis], *at[axis + 1 :])]
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "reference", "first", "offsets"),
    [
        ("", (1, 7, 2, 3), 2, (0, 0)),
        ("offset: 1", (1, 1, 3, 2), 2, (1, 1)),
        ("offset: 2 offset: 1", (1, 1, 2, 3), 2, (2, 1)),
        ("axis: 1 offset: 1 offset: 0 offset: 2", (9, 2, 4, 3), 1, (1, 0, 2)),
        ("axis: -1 offset: 2", (1, 1, 1, 3), 3, (2,)),
        ("axis: 0", (2, 3, 4, 5), 0, (0, 0, 0, 0)),
        ("center_align: true offset: 4", (1, 7, 1, 2), 2, (1, 1)),
    ],
)
def test_crop(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    reference: Shape,
    first: int,
    offsets: Shape,
) -> None:
    shape = (2, 3, 4, 5)
    layer = make_layer(f'type: "Crop" crop_param {{ {fields} }}', shape, reference)
    x, other = spread(*shape), spread(*reference)
    (y,) = run(layer, x, other)
    assert y.shape == (*shape[:first], *reference[first:])
    shift = (0,) * first + offsets
    for at in np.ndindex(*y.shape):
        assert y[at] == x[tuple(i + o for i, o in zip(at, shift, strict=True))]
    check_gradient(layer, x, other)


def test_batch_reindex(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer('type: "BatchReindex"', (3, 2, 2), (4,))
    x, index = spread(3, 2, 2), np.array([2, 0, 2, 2])
    (y,) = run(layer, x, index)
    for k, item in enumerate(index):
        assert y[k].tolist() == x[item].tolist()
    check_gradient(layer, x, index)


def test_copies_of_an_item_add_up_in_the_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BatchReindex"', (3, 1), (4,))
    x = torch.zeros(3, 1, requires_grad=True)
    (
        layer(x, torch.tensor([2.0, 0.0, 2.0, 2.0])) * torch.tensor([[1.0], [2], [3], [4]])
    ).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [2, 0, 8]


def test_batch_reindex_names_a_number_without_an_item(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "BatchReindex"', (3, 2), (1,))
    with pytest.raises(DataError, match="index 3 is outside of the 3 items"):
        layer(torch.zeros(3, 2), torch.tensor([3.0]))


FILTER = 'type: "Filter" top: "a" top: "b"'


@pytest.mark.parametrize("selector", [[1, 0, 2, 0], [1, 1, 1, 1], [0, 0, 0, -1]])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_filter(
    make_layer: LayerMaker,
    check_gradient: GradientCheck,
    spread: Spread,
    selector: list[int],
    shape: Shape,
) -> None:
    layer = make_layer(FILTER, (4, 3), (4, 2, 2), shape)
    assert layer.top_shapes((4, 3), (4, 2, 2), shape) == [(4, 3), (4, 2, 2)]
    blobs = [spread(4, 3), spread(4, 2, 2)]
    chosen = np.array(selector, float).reshape(shape)
    tops = layer(*(torch.from_numpy(b) for b in (*blobs, chosen)))
    for blob, top in zip(blobs, tops, strict=True):
        assert top.tolist() == [blob[k].tolist() for k in range(4) if selector[k]]
    check_gradient(layer, *blobs, chosen)


def test_a_reference_may_have_more_axes(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Crop" crop_param { axis: 1 }', (2, 3), (9, 2, 4))
    assert layer.first_top_shapes == [(2, 2)]
    assert layer(torch.arange(6).reshape(2, 3), torch.zeros(9, 2, 4)).tolist() == [[0, 1], [3, 4]]


def test_filter_when_nothing_passes(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "Filter"', (2, 3), (2,))
    x = torch.ones(2, 3, requires_grad=True)
    (y,) = layer(x, torch.zeros(2))
    y.sum().backward()
    assert y.shape == (0, 3)
    assert x.grad is not None
    assert not x.grad.any()


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "Tile" tile_param { tiles: 0 }', [(2, 3)], "tiles must be > 0, got 0"),
        ('type: "Tile" tile_param { tiles: 1 axis: 2 }', [(2, 3)], "axis 2 does not exist"),
        ('type: "Crop"', [(1, 1, 4, 4), (1, 4, 4)], "must have as many axes as the blob"),
        ('type: "Tile"', [(2, 3)], "tiles is missing"),
        ('type: "Filter"', [(), (2,)], "at least 1 axis, got shape"),
        ('type: "BatchReindex"', [(), (2,)], "at least 1 axis, got shape"),
        (
            'type: "Crop" crop_param { axis: 1 offset: 1 offset: 1 }',
            [(1, 1, 4, 4), (1, 1, 2, 2)],
            "number of offset values specified must be equal .*: 2 for 3",
        ),
        (
            'type: "Crop" crop_param { offset: 0 offset: 3 }',
            [(1, 1, 4, 4), (1, 1, 2, 2)],
            "the crop for dimension 3 is out-of-bounds: offset 3 and size 2 in 4",
        ),
        (
            'type: "Crop" crop_param { center_align: true }',
            [(1, 1, 4, 4), (1, 1, 5, 4)],
            "dimension 2 is out-of-bounds: offset 0 and size 5 in 4",
        ),
        ('type: "Crop" crop_param { axis: 4 }', [(1, 1, 4, 4)] * 2, "axis 4 does not exist"),
        ('type: "BatchReindex"', [(3, 2), (2, 2)], "the indices must have one axis"),
        ('type: "Filter"', [(3, 2), (2,)], "should have the same 0th dimension"),
        ('type: "Filter"', [(3, 2), (3, 2)], "the selector has one value an item"),
        (FILTER, [(3, 2), (3,)], "one top for each blob it filters: 1 blobs, 2 tops"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def test_both_names_of_an_axis_may_stand_with_one_number(make_layer: LayerMaker) -> None:
    """MyCaffe writes both."""
    joined = make_layer(
        'name: "join" type: "Concat" bottom: "a" bottom: "b" top: "y"'
        " concat_param { axis: 0 concat_dim: 0 }",
        (2, 3),
        (2, 3),
    )
    assert joined.top_shapes((2, 3), (2, 3)) == [(4, 3)]
    assert make_layer(slice_text(2, "axis: 0 slice_dim: 0"), (2, 3)).top_shapes((2, 3)) == [
        (1, 3),
        (1, 3),
    ]
