from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("", "2 3 4 5"),
        ("type: NOR", "2 3 4 5"),
        ("type: NOR", "2 3"),
        ("context_per_roi: 3", "6 4"),
    ],
)
def test_parts(export: Export, options: str, shape: str) -> None:
    values = np.random.default_rng(0).uniform(0, 0.5, [int(n) for n in shape.split()])
    text = one_layer(f'type: "MIL" mil_param {{ {options} }}', shape)
    export(text, check_inputs={"x0": values})
