from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(("height", "width"), [(3, 4), (5, 15)])
def test_resize(export: Export, height: int, width: int) -> None:
    fields = f"mask_resize_param {{ output_height: {height} output_width: {width} }}"
    assert export(one_layer(f'type: "MaskResize" {fields}', "2 1 5 6")).free_batch


def test_pooling(export: Export) -> None:
    assert export(one_layer('type: "MaskPooling"', "2 3 4 5", "2 1 4 5")).free_batch
