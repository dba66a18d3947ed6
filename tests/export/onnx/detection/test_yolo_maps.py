from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("options", ["stride: 2", "stride: 2 reverse: true"])
def test_reorg(export: Export, options: str) -> None:
    export(one_layer(f'type: "Reorg" reorg_param {{ {options} }}', "2 8 4 6"))


@pytest.mark.parametrize("coords", [2, 4])
@pytest.mark.parametrize("softmax", ["true", "false"])
def test_region(export: Export, coords: int, softmax: str) -> None:
    options = f"coords: {coords} classes: 5 num: 3 do_softmax: {softmax}"
    shape = f"2 {3 * (coords + 6)} 4 3"
    export(one_layer(f'type: "RegionYolo" region_yolo_param {{ {options} }}', shape))
