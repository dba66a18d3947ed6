from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 1), (1, 0, 2), ()])
def test_permute(export: Export, order: tuple[int, ...]) -> None:
    options = " ".join(f"order: {axis}" for axis in order)
    export(one_layer(f'type: "Permute" permute_param {{ {options} }}', "2 3 4 5"))
