from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("function", ["hwgq", "sign", "hard_tanh", "relu"])
def test_quant(export: Export, function: str) -> None:
    fields = f'forward_func: "{function}" centers: [0.5, 1, 0.75, 2] negative_slope: 0.25'
    assert export(one_layer(f'type: "Quant" quant_param {{ {fields} }}', "2 3 4 5")).free_batch
