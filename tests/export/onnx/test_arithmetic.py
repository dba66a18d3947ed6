from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("operation", ["SUM", "PROD", "MAX"])
def test_eltwise(export: Export, operation: str, count: int) -> None:
    layer = f'type: "Eltwise" eltwise_param {{ operation: {operation} }}'
    assert export(one_layer(layer, *["2 3 4"] * count)).free_batch


def test_eltwise_coefficients(export: Export) -> None:
    layer = 'type: "Eltwise" eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }'
    export(one_layer(layer, "2 3", "2 3", "2 3"))


@pytest.mark.parametrize("fields", ["coeff: 20", ""])
def test_eltwise_of_one_bottom(export: Export, fields: str) -> None:
    export(one_layer(f'type: "Eltwise" eltwise_param {{ {fields} }}', "2 3"))


@pytest.mark.parametrize("kind", ["scale", "bias"])
@pytest.mark.parametrize(
    "options", ["", "axis: 0", "axis: 2", "axis: 1 num_axes: 2", "axis: 1 num_axes: -1",
                "num_axes: 0", "axis: -1"],
)  # fmt: skip
def test_learned_scale_and_bias(export: Export, kind: str, options: str) -> None:
    layer = f'type: "{kind.title()}" {kind}_param {{ {options} }}'
    export(one_layer(layer, "2 3 4 5"))


@pytest.mark.parametrize("options", ["", "axis: 0 num_axes: 1", "axis: 1 num_axes: 2"])
def test_scale_with_bias(export: Export, options: str) -> None:
    export(one_layer(f'type: "Scale" scale_param {{ bias_term: true {options} }}', "2 3 4"))


@pytest.mark.parametrize("kind", ["scale", "bias"])
@pytest.mark.parametrize(("axis", "other"), [(0, "2 3"), (1, "3 4"), (0, "2"), (2, "4")])
def test_second_operand(export: Export, kind: str, axis: int, other: str) -> None:
    layer = f'type: "{kind.title()}" {kind}_param {{ axis: {axis} }}'
    export(one_layer(layer, "2 3 4", other))


def test_scale_by_a_blob_and_add_a_learned_bias(export: Export) -> None:
    export(one_layer('type: "Scale" scale_param { bias_term: true axis: 1 }', "2 3 4", "3"))


@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("opset", [13, 17, 18])
def test_reduction(export: Export, operation: str, axis: int, opset: int) -> None:
    layer = f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: 2 }}'
    export(one_layer(layer, "2 3 4"), opset=opset)
