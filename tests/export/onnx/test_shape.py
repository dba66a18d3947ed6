from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat(export: Export, axis: int) -> None:
    layer = f'type: "Concat" concat_param {{ axis: {axis} }}'
    export(one_layer(layer, "2 3 4", "2 3 4", "2 3 4"))


def test_concat_of_one(export: Export) -> None:
    export(one_layer('type: "Concat"', "2 3 4"))


@pytest.mark.parametrize("options", ["", "axis: 2", "axis: 0", "axis: 1 end_axis: 2", "axis: -2"])
def test_flatten(export: Export, options: str) -> None:
    export(one_layer(f'type: "Flatten" flatten_param {{ {options} }}', "2 3 4 5"))


@pytest.mark.parametrize(
    ("options", "free"),
    [
        ("shape { dim: 0 dim: -1 }", True),
        ("shape { dim: 0 dim: 4 dim: -1 dim: 5 }", True),
        ("shape { dim: -1 dim: 6 }", True),
        ("shape { dim: 0 dim: 0 dim: 20 }", True),
        ("shape { dim: 2 dim: -1 }", False),  # the batch is written down
        ("shape { dim: -1 } axis: 1", True),
        ("shape { dim: 2 dim: 2 } axis: 2 num_axes: 1", True),
        ("shape { dim: 1 } axis: 1 num_axes: 0", True),
        ("shape { dim: 1 } axis: -1", False),
    ],
)
def test_reshape(export: Export, options: str, free: bool) -> None:
    shape = "2 3 4 5" if "axis: -1" not in options else "2 3 4 1"
    text = one_layer(f'type: "Reshape" reshape_param {{ {options} }}', shape)
    done = export(text)
    if free:
        assert done.free_batch
    export(text, batch=2)


@pytest.mark.parametrize("options", ["", "slice_point: 1 slice_point: 4", "axis: 2",
                                     "axis: -1 slice_point: 2 slice_point: 3"])  # fmt: skip
def test_slice(export: Export, options: str) -> None:
    tops = 'top: "a" top: "b" top: "c"'
    layer = f'type: "Slice" slice_param {{ {options} }}'
    done = export(one_layer(layer, "2 6 6", tops=tops))
    assert list(done.outputs) == ["a", "b", "c"]


def test_slice_of_the_batch_fixes_it(export: Export) -> None:
    layer = 'type: "Slice" slice_param { axis: 0 slice_point: 1 }'
    done = export(one_layer(layer, "3 2", tops='top: "a" top: "b"'))
    assert not done.free_batch
    assert done.inputs == {"x0": "(3, 2)"}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_tile(export: Export, axis: int) -> None:
    export(one_layer(f'type: "Tile" tile_param {{ axis: {axis} tiles: 3 }}', "2 3 4"))


@pytest.mark.parametrize(
    "options",
    [
        "offset: 1",
        "axis: 3 offset: 2",
        "axis: 1 offset: 0 offset: 2 offset: 1",
        "",
        "center_align: true",
    ],
)
def test_crop(export: Export, options: str) -> None:
    reference = "2 3 4 5" if "axis: 1" in options else "2 9 4 5"
    layer = f'type: "Crop" crop_param {{ {options} }}'
    shape = "2 3 4 8" if "axis: 3" in options else "2 3 7 8"
    export(one_layer(layer, shape, reference))


def test_batch_reindex(export: Export) -> None:
    x = np.random.default_rng(0).random((3, 2), np.float32)
    index = np.array([2, 0, 0, 1], np.float32)
    export(one_layer('type: "BatchReindex"', "3 2", "4"), check_inputs={"x0": x, "x1": index})


@pytest.mark.parametrize("selector", ["4", "4 1"])
def test_filter(export: Export, selector: str) -> None:
    text = one_layer('type: "Filter"', "4 2", "4 3 2", selector, tops='top: "a" top: "b"')
    export(text + 'layer { name: "flat" type: "Flatten" bottom: "b" top: "c" }')


def test_silence(export: Export) -> None:
    text = one_layer('type: "ReLU"', "2 3")
    done = export(
        text
        + """layer { name: "n" type: "AbsVal" bottom: "x0" top: "unread" }
        layer { name: "quiet" type: "Silence" bottom: "unread" }"""
    )
    assert list(done.outputs) == ["y"]
    assert done.nodes == 1


def test_nothing_to_give_out(export: Export) -> None:
    text = one_layer('type: "ReLU"', "2 3") + 'layer { name: "q" type: "Silence" bottom: "y" }'
    with pytest.raises(NetError, match="nothing is left to export: no blob is an output"):
        export(text)


def test_debug(export: Export) -> None:
    assert export(one_layer('type: "Debug"', "2 3", "2")).free_batch


def test_crop_along_the_batch_too(export: Export) -> None:
    """The blob that only gives the size is no input of the file."""
    done = export(one_layer('type: "Crop" crop_param { axis: 0 offset: 0 }', "2 3 5 6", "2 2 4 3"))
    assert done.free_batch
    assert list(done.inputs) == ["x0"]


def test_crop_of_the_batch_to_a_number_fixes_it(export: Export) -> None:
    layer = 'type: "Crop" crop_param { axis: 0 offset: 0 }'
    assert not export(one_layer(layer, "3 3 5 6", "2 2 4 3")).free_batch


@pytest.mark.parametrize(
    ("options", "shape", "free"),
    [
        ("axis: 1", "2 1 3 1", True),
        ("axis: -1 axis: 1", "2 1 3 1", True),
        ("", "2 1 3 1", False),  # a batch of one item would lose its axis, too
        ("axis: 0", "1 3", False),
    ],
)
def test_squeeze(export: Export, options: str, shape: str, free: bool) -> None:
    layer = f'type: "Squeeze" squeeze_param {{ {options} }}'
    assert export(one_layer(layer, shape)).free_batch == free
