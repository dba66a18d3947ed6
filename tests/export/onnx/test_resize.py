from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("options", ["height: 9 width: 7", "zoom_factor: 3", "shrink_factor: 2",
                                     "height: 4 width: 3 pad_beg: -1 pad_end: -1"])  # fmt: skip
@pytest.mark.parametrize("opset", [13, 18])
def test_interp(export: Export, options: str, opset: int) -> None:
    assert export(
        one_layer(f'type: "Interp" interp_param {{ {options} }}', "2 3 5 6"), opset=opset
    ).free_batch


@pytest.mark.parametrize("kind", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize("size", ["height: 9 width: 3", "factor: 2"])
def test_resample(export: Export, kind: str, size: str) -> None:
    export(one_layer(f'type: "Resample" resample_param {{ type: {kind} {size} }}', "2 3 5 6"))
