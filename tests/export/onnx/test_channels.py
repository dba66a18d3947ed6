from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("factor", ["2 3", "2 3 1 1"])
def test_axpy(export: Export, factor: str) -> None:
    export(one_layer('type: "Axpy"', factor, "2 3 4 5", "2 3 4 5"))
