from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "layer",
    [
        'type: "Mish"',
        'type: "HardSwish"',
        'type: "Cosine"',
        'type: "Insanity" insanity_param { lb: 2 ub: 4 }',
    ],
)
@pytest.mark.parametrize("shape", ["2 3", "1 3 5 4"])
def test_any_shape(export: Export, layer: str, shape: str) -> None:
    done = export(one_layer(layer, shape))
    assert done.free_batch
    assert done.nodes <= 3


def test_arccos(export: Export) -> None:
    sigmoid = 'layer { name: "s" type: "Sigmoid" bottom: "x0" top: "s" }'
    text = one_layer('type: "Arccos"', "2 3").replace('bottom: "x0"', 'bottom: "s"')
    export(text.replace('layer { name: "it"', f'{sigmoid} layer {{ name: "it"'))
