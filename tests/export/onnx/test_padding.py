from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(("beg", "end"), [(1, 2), (-1, 1), (-1, -2)])
def test_margins(export: Export, beg: int, end: int) -> None:
    layer = f'type: "Padding" padding_param {{ pad_beg: {beg} pad_end: {end} }}'
    assert export(one_layer(layer, "2 3 5 4")).free_batch


@pytest.mark.parametrize(
    ("paddings", "free"), [("0, 0, 1, 2, 0, 3", True), ("1, 0, 0, 0, 0, 0", False)]
)
def test_any_axes(export: Export, paddings: str, free: bool) -> None:
    layer = f'type: "Pad" pad_param {{ paddings: [{paddings}] constant_values: 1.5 }}'
    assert export(one_layer(layer, "2 3 4")).free_batch == free
