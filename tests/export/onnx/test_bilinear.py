from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import MokaError

SHAPES = ("2 3 4 5", "2 6 4 5")


def compact(fields: str) -> str:
    layer = f'type: "CompactBilinear" compact_bilinear_param {{ {fields} }}'
    return one_layer(layer, *SHAPES)


def test_bilinear(export: Export) -> None:
    assert export(one_layer('type: "Bilinear"', *SHAPES)).free_batch


@pytest.mark.parametrize("n", [5, 64])
def test_compact_bilinear(export: Export, n: int) -> None:
    assert export(compact(f"num_output: {n}"), opset=16).free_batch


def test_what_has_no_form(export: Export) -> None:
    with pytest.raises(MokaError, match="sum_pool: false"):
        export(compact("num_output: 4 sum_pool: false"))
    with pytest.raises(MokaError, match="needs the operator ScatterND with a sum of opset 16"):
        export(compact("num_output: 4"), opset=15)


@pytest.mark.parametrize(("a", "b"), [("2 3", "3 4"), ("5 2 3", "3 4"), ("5 2 3", "5 3 4")])
def test_matrix_multiplication(export: Export, a: str, b: str) -> None:
    export(one_layer('type: "MatrixMultiplication"', a, b))
