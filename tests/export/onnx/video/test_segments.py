from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("kind", ["Gather", "Scatter"])
def test_one_process_has_all(export: Export, kind: str) -> None:
    text = one_layer(f'type: "{kind}"', "2 3", "2 4 5", tops='top: "a" top: "b"')
    assert export(text).free_batch


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("reduction_param { axis: 1 }", "2 3 4"),
        ("reduction_param { axis: 1 operation: MEAN }", "2 3 4 5"),
        ("reduction_param { axis: 1 operation: TOPK k: 2 }", "2 5 4"),
        ("level: 1 level: 2 reduction_param { axis: 1 operation: MEAN }", "2 5 4"),
        ("level: 2 reduction_param { axis: 2 }", "2 3 4"),
        ("pos: true reduction_param { axis: 1 operation: MEAN }", "2 3 3 4"),
        ("pos: true reduction_param { axis: 1 }", "2 3 3"),
    ],
)
def test_batch_reduction(export: Export, options: str, shape: str) -> None:
    layer = f'type: "BatchReduction" batch_reduction_param {{ {options} }}'
    assert export(one_layer(layer, shape)).free_batch


def test_the_batch_itself_is_reduced(export: Export) -> None:
    layer = 'type: "BatchReduction" batch_reduction_param { reduction_param { axis: 0 } }'
    assert not export(one_layer(layer, "3 4")).free_batch
