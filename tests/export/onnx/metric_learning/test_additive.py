from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

TOPS = 'top: "y" top: "bias"'


@pytest.mark.parametrize(
    "options",
    [
        "bias: -0.4",
        "bias: -0.4 transform_test: true",
        "transform_test: true bias_base: -0.2 bias_gamma: 0.1 bias_power: 2 iteration: 3",
    ],
)
def test_scores(export: Export, options: str) -> None:
    layer = f'type: "LabelSpecificAdd" label_specific_add_param {{ {options} }}'
    text = one_layer(layer, "5 2 3", "5", tops=TOPS)
    assert export(text).free_batch
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    export(text, check_inputs={"x0": x, "x1": [0, 5, 3, 2, 2]})
