from __future__ import annotations

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
