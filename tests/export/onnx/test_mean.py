from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.schema import write_binary
from moka.schema.blobproto import from_array

SCALES = "mean_scale: 2 input_scale: 5 output_scale: 0.5"


@pytest.mark.parametrize("shape", ["2 4 3 5", "2 2"])
@pytest.mark.parametrize("options", ["", "operation: SUBTRACT", SCALES])
def test_values(export: Export, options: str, shape: str) -> None:
    layer = f'type: "Mean" mean_param {{ value: 1 value: 3 {options} }}'
    assert export(one_layer(layer, shape)).free_batch


def test_an_image_for_several_bottoms(export: Export, tmp_path: Path) -> None:
    mean = np.random.default_rng(1).random((1, 2, 3, 5), np.float32)
    write_binary(tmp_path / "mean", from_array(mean))
    layer = f'type: "Mean" mean_param {{ file: "{tmp_path}/mean" }}'
    export(one_layer(layer, "2 4 3 5", "2 2 3 5", tops='top: "y" top: "z"'))
