from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

DRAW = np.random.default_rng(2)


@pytest.mark.parametrize(
    ("options", "entries"),
    [
        ("", 6),
        ("output_H: 3 output_W: 8", 6),
        ("theta_1_1: 0.5 theta_2_2: 0.7", 4),
        ("theta_1_2: 0 theta_1_3: 0.1 theta_2_1: 0 theta_2_3: 0", 2),
    ],
)
def test_spatial_transformer(export: Export, options: str, entries: int) -> None:
    layer = f'type: "SpatialTransformer" st_param {{ {options} }}'
    text = one_layer(layer, "2 3 5 6", f"2 {entries}")
    assert export(text).free_batch
    x = DRAW.standard_normal((2, 3, 5, 6))
    export(text, check_inputs={"x0": x, "x1": DRAW.standard_normal((2, entries)) * 0.5})


def test_spatial_transformer_with_a_given_map(export: Export) -> None:
    theta = " ".join(f"theta_{i}_{j}: {0.3 * i - 0.1 * j}" for i in (1, 2) for j in (1, 2, 3))
    layer = f'type: "SpatialTransformer" st_param {{ {theta} }}'
    export(one_layer(layer, "2 3 5 6", "2 0"))
