from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "options",
    [
        "",
        "mean: 0.4 mean: 0.3 mean: 0.2 mean_per_pixel: false",
        "recompute_mean: 3",
        "recompute_mean: 3 mean_per_pixel: false",
        "crop_height: 4 crop_width: 5 recompute_mean: 3",
        "crop_height: 5 crop_width: 4",
    ],
)
def test_mean_and_crop(export: Export, options: str) -> None:
    layer = f'type: "DataAugmentation" augmentation_param {{ {options} }}'
    assert export(one_layer(layer, "2 3 8 7")).free_batch
