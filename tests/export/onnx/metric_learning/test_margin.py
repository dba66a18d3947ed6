from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

DRAW = np.random.default_rng(5)
TOPS = 'top: "scores" top: "lambda"'


def inputs(*shape: int) -> dict[str, np.ndarray]:
    return {"x0": DRAW.standard_normal(shape), "x1": DRAW.integers(0, 5, shape[0])}


@pytest.mark.parametrize("margin", ["SINGLE", "DOUBLE", "TRIPLE", "QUADRUPLE"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("MarginInnerProduct", "margin_inner_product_param"),
        ("LargeMarginInnerProduct", "largemargin_inner_product_param"),
    ],
)
def test_scores(export: Export, kind: str, message: str, margin: str) -> None:
    options = f"num_output: 5 type: {margin} base: 100 gamma: 0.1 power: 1 lambda_min: 2"
    text = one_layer(f'type: "{kind}" {message} {{ {options} }}', "6 3 2", "6", tops=TOPS)
    assert export(text).free_batch
    export(text, check_inputs=inputs(6, 3, 2))


def test_weights_from_a_bottom(export: Export) -> None:
    layer = 'type: "LargeMarginInnerProduct" largemargin_inner_product_param { type: TRIPLE }'
    text = one_layer(layer, "6 3", "6", "5 3")
    export(text, check_inputs=inputs(6, 3) | {"x2": DRAW.standard_normal((5, 3))})


def test_half_of_weights_that_are_scaled_to_length_1(export: Export) -> None:
    layer = 'type: "MarginInnerProduct" margin_inner_product_param { num_output: 5 }'
    export(one_layer(layer, "6 50", "6"), half=True)
