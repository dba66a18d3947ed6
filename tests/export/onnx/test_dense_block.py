from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("bottleneck", ["", "use_BC: true"])
@pytest.mark.parametrize("steps", [1, 3])
def test_dense_block(export: Export, steps: int, bottleneck: str) -> None:
    options = f"numTransition: {steps} growthRate: 2 use_dropout: true {bottleneck}"
    layer = f'type: "DenseBlock" denseblock_param {{ {options} }}'
    assert export(one_layer(layer, "2 3 5 4")).free_batch
