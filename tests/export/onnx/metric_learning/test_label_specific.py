from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

TOPS = 'top: "y" top: "shown"'
MESSAGES = {
    "LabelSpecificMargin": "label_specific_margin_param",
    "LabelSpecificRescale": "label_specific_rescale_param",
    "LabelSpecificHardMargin": "label_specific_hard_margin_param",
}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("LabelSpecificMargin", "margin_base: 20"),
        ("LabelSpecificMargin", "margin_base: 20 margin_on_test: true"),
        ("LabelSpecificMargin", "margin_on_test: true"),
        ("LabelSpecificMargin", "margin_base: 1.5 margin_on_test: true type: SOFT"),
        ("LabelSpecificRescale", "positive_weight: 2"),
        ("LabelSpecificRescale", "positive_weight: 2 negative_weight: 0.5 rescale_test: true"),
        (
            "LabelSpecificRescale",
            "positive_weight: 2 for_ip: true bias_fix: true rescale_test: true",
        ),
        ("LabelSpecificHardMargin", ""),
    ],
)
def test_scores(export: Export, kind: str, options: str) -> None:
    layer = f'type: "{kind}" {MESSAGES[kind]} {{ {options} }}'
    text = one_layer(layer, "5 2 3", "5", tops=TOPS)
    assert export(text).free_batch
    x = np.random.default_rng(0).uniform(-0.95, 0.95, (5, 2, 3))
    export(text, check_inputs={"x0": x, "x1": [0, 5, 3, 2, 2]})


def test_a_margin_that_is_a_bottom(export: Export) -> None:
    layer = 'type: "LabelSpecificMargin" label_specific_margin_param { margin_on_test: true }'
    text = one_layer(layer, "3 4", "3", "1", tops=TOPS)
    x = np.random.default_rng(0).uniform(-0.95, 0.95, (3, 4))
    export(text, check_inputs={"x0": x, "x1": [0, 3, 2], "x2": [15]})
