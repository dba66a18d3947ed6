from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError


@pytest.mark.parametrize(
    "layer",
    [
        'type: "BatchNorm" batch_norm_param { scale_bias: true relu: true }',
        'type: "BatchNorm" batch_norm_param { use_weight_bias: true bias_term: false }',
        'type: "BatchNorm" batch_norm_param { disable_mean: true }',
        'type: "BatchNorm" batch_norm_param { disable_variance: true scale_bias: true }',
        'type: "BN"',
        'type: "BN" bn_param { bn_mode: INFERENCE }',
        'type: "SyncBN" bn_param { eps: 0.1 frozen: true }',
        'type: "BN" bn_param { bn_mode: LEARN }',
        'type: "BN" bn_param { moving_average: false var_eps: 0.01 }',
        'type: "BN" bn_param { moving_average: true var_eps: 0.01 }',
        'type: "BN" bn_param { across_spatial: false var_eps: 0.01 }',
        'type: "BN" bn_param { across_spatial: false moving_average: true var_eps: 0.01 }',
        'type: "BN" bn_param { axis: 1 var_eps: 0.01 }',
        'type: "BN" bn_param { axis: 2 var_eps: 0.01 }',
        'type: "BN" bn_param { axis: 2 moving_average: true var_eps: 0.01 }',
        'type: "BatchNorm" batch_norm_param { use_global_stats: false use_weight_bias: true }',
        'type: "BatchNorm" batch_norm_param { use_global_stats: false disable_mean: true }',
        'type: "BatchNorm" batch_norm_param { use_global_stats: false disable_variance: true }',
    ],
)
@pytest.mark.parametrize("fold", [True, False])
def test_forms_of_forks(export: Export, layer: str, fold: bool) -> None:
    assert export(one_layer(layer, "2 3 4 5"), fold=fold).free_batch


def test_a_few_items_at_a_time(export: Export) -> None:
    options = "use_global_stats: false stats_batch_size: 2 filler { value: 1 }"
    layer = f'type: "BatchNorm" batch_norm_param {{ {options} }}'
    assert not export(one_layer(layer, "5 3 4 5")).free_batch
    export(one_layer(layer, "2 3 4 5"))


def test_statistics_of_a_batch_are_refused(export: Export) -> None:
    text = one_layer('type: "BN" bn_param { bn_mode: LEARN }', "2 3 4 5", tops='top: "y" top: "m"')
    with pytest.raises(NetError, match="the statistics of a batch are not exported"):
        export(text)
