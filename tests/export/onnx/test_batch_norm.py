from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "layer",
    [
        'type: "BatchNorm" batch_norm_param { scale_bias: true relu: true }',
        'type: "BatchNorm" batch_norm_param { use_weight_bias: true bias_term: false }',
        'type: "BatchNorm" batch_norm_param { disable_mean: true }',
        'type: "BatchNorm" batch_norm_param { disable_variance: true scale_bias: true }',
        'type: "BN"',
        'type: "BN" bn_param { bn_mode: INFERENCE }',
    ],
)
def test_forms_of_forks(export: Export, layer: str) -> None:
    export(one_layer(layer, "2 3 4 5"))
