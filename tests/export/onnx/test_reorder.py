from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "layer",
    [
        'type: "ShuffleChannel" shuffle_channel_param { group: 3 }',
        'type: "Flip" flip_param { flip_height: true }',
        'type: "Flip"',
        'type: "Reverse" reverse_param { axis: 1 axis: 3 }',
        'type: "Transpose" transpose_param { dim: 0 dim: 3 dim: 1 dim: 2 }',
    ],
)
def test_orders(export: Export, layer: str) -> None:
    export(one_layer(layer, "2 6 4 5"))


@pytest.mark.parametrize("options", ["", "copy_remaining: true"])
@pytest.mark.parametrize("shape", ["4 3 2", "4 3"])
def test_sequences_of_different_lengths(export: Export, options: str, shape: str) -> None:
    layer = f'type: "ReverseTime" reverse_time_param {{ {options} }}'
    x = np.random.default_rng(0).standard_normal([int(n) for n in shape.split()])
    export(one_layer(layer, shape, "3"), check_inputs={"x0": x, "x1": [4, 1, 2]})


@pytest.mark.parametrize(("reverse", "shape"), [("false", "2 3 4 6"), ("true", "2 8 3 2")])
def test_gs_tiling(export: Export, reverse: str, shape: str) -> None:
    layer = f'type: "GSTiling" gs_tiling_param {{ stride: 2 reverse: {reverse} }}'
    done = export(one_layer(layer, shape))
    assert done.free_batch
    assert done.nodes == 1


def test_tiling(export: Export) -> None:
    done = export(one_layer('type: "Tiling" tiling_param { tile_dim: 2 }', "2 8 3 2"))
    assert done.free_batch
    assert done.nodes == 1
