from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize(
    "options", ["", "normalize: true", "transpose: true", "axis: 2", "axis: -1 transpose: true"]
)
def test_own_centers(export: Export, kind: str, options: str) -> None:
    options = f"num_output: 4 distance_type: '{kind}' {options}"
    layer = f'type: "InnerDistance" inner_distance_param {{ {options} }}'
    assert export(one_layer(layer, "3 2 5")).free_batch


@pytest.mark.parametrize("kind", ["L1", "L2"])
def test_centers_from_a_bottom(export: Export, kind: str) -> None:
    layer = f"type: \"InnerDistance\" inner_distance_param {{ distance_type: '{kind}' }}"
    export(one_layer(layer, "3 2 5", "4 10"))


def test_labels_change_nothing(export: Export) -> None:
    options = "num_output: 4 update_center_only: true"
    layer = f'type: "InnerDistance" inner_distance_param {{ {options} }}'
    assert list(export(one_layer(layer, "3 5", "3")).inputs) == ["x0"]
