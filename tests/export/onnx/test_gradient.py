from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("kind", ["GradientScaler", "GradientReversal"])
def test_nothing_changes(export: Export, kind: str) -> None:
    done = export(one_layer(f'type: "{kind}"', "2 3 4"))
    assert done.free_batch
    assert done.nodes <= 1
