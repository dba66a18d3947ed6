from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

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
        ('type: "Reshape" bottom: "x" top: "x"', [(2, 3)], "does not allow in-place"),
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


def test_debug_passes_its_first_bottom_on(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(2, 3)
    layer = make_layer('type: "Debug" debug_param { max_stored_batches: 2000 }', (2, 3), (2,))
    np.testing.assert_array_equal(run(layer, x, np.zeros(2))[0], x)
    alone = make_layer('type: "Debug"', (2, 3))
    check_gradient(alone, x)


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
