from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "options",
    [
        "pad: 3 kernel_size: 1 max_displacement: 3",
        "pad: 4 kernel_size: 1 max_displacement: 4 stride_2: 2",
        "pad: 3 kernel_size: 3 max_displacement: 2 stride_1: 2",
        "pad: 0 kernel_size: 1 max_displacement: 2 correlation_type: SUBTRACT",
        "pad: 5 kernel_size: 3 max_displacement: 5 stride_1: 1 stride_2: 2",
    ],
)
def test_correlation(export: Export, options: str) -> None:
    layer = f'type: "Correlation" correlation_param {{ {options} }}'
    assert export(one_layer(layer, "2 3 8 9", "2 3 8 9")).free_batch


@pytest.mark.parametrize("direction", [-1, 0, 1])
@pytest.mark.parametrize(
    "options",
    [
        "pad: 4 kernel_size: 1 max_displacement: 4 stride_2: 2",
        "pad: 3 kernel_size: 3 max_displacement: 3 stride_1: 2",
    ],
)
def test_correlation_along_rows(export: Export, direction: int, options: str) -> None:
    options = f"{options} single_direction: {direction}"
    layer = f'type: "Correlation1D" correlation_param {{ {options} }}'
    assert export(one_layer(layer, "2 3 6 9", "2 3 6 9")).free_batch
