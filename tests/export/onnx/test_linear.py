from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("options", ["", "bias_term: false", "transpose: true", "axis: 2",
                                     "axis: -1", "axis: 0"])  # fmt: skip
@pytest.mark.parametrize("shape", ["2 3 4", "2 3 4 5"])
def test_inner_product(export: Export, options: str, shape: str) -> None:
    export(
        one_layer(f'type: "InnerProduct" inner_product_param {{ num_output: 6 {options} }}', shape)
    )


@pytest.mark.parametrize("bias", ["true", "false"])
@pytest.mark.parametrize("shape", [(4,), (2, 3)])
def test_embed(export: Export, bias: str, shape: tuple[int, ...]) -> None:
    layer = f'type: "Embed" embed_param {{ num_output: 3 input_dim: 7 bias_term: {bias} }}'
    index = np.random.default_rng(0).integers(0, 7, shape).astype(np.float32)
    text = one_layer(layer, " ".join(map(str, shape)))
    export(text, check_inputs={"x0": index})
    export(text)  # random indices fit the table


def test_embed_of_one_row(export: Export) -> None:
    export(one_layer('type: "Embed" embed_param { num_output: 3 input_dim: 1 }', "4"))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("BinaryInnerProduct", "binary_inner_product_param { use_alpha: true }"),
        ("CInnerProduct", "cinner_product_param { }"),
        ("InnerProduct", ""),
    ],
)
def test_weights_that_are_changed_on_the_way(export: Export, kind: str, more: str) -> None:
    normal = "" if more else "normalize: true transpose: true"
    layer = f'type: "{kind}" inner_product_param {{ num_output: 3 {normal} }} {more}'
    assert export(one_layer(layer, "2 4 5")).free_batch


@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        ("bias_term: false", ["2 4 5", "3 4 5"]),
        ("", ["2 20", "3 20"]),
        ("axis: 2", ["2 4 5", "3 5", "3"]),
    ],
)
def test_weights_among_the_bottoms(export: Export, fields: str, shapes: list[str]) -> None:
    layer = f'type: "InnerProduct" inner_product_param {{ num_output: 3 {fields} }}'
    export(one_layer(layer, *shapes))
