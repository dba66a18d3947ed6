from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Mish"',
        'type: "HardSwish"',
        'type: "SignedSqrt"',
        'type: "SeLU" selu_param { alpha: 1.5 }',
        'type: "CReLU"',
        'type: "CReLU" crelu_param { negative_slope: 0.25 concat_axis: -1 }',
    ],
)
@pytest.mark.parametrize("shape", ["2 3", "1 3 5 4"])
def test_any_shape(export: Export, layer: str, shape: str) -> None:
    done = export(one_layer(layer, shape))
    assert done.free_batch
    assert done.nodes <= 4
