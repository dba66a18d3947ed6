from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(("beg", "end"), [(1, 2), (-1, 1), (-1, -2)])
def test_margins(export: Export, beg: int, end: int) -> None:
    layer = f'type: "Padding" padding_param {{ pad_beg: {beg} pad_end: {end} }}'
    assert export(one_layer(layer, "2 3 5 4")).free_batch
