from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

LAYERS = [
    'type: "ReLU"',
    'type: "ReLU" relu_param { negative_slope: 0.1 }',
    'type: "Sigmoid"',
    'type: "TanH"',
    'type: "AbsVal"',
    'type: "BNLL"',
    'type: "Clip" clip_param { min: -0.5 max: 0.7 }',
    'type: "ELU" elu_param { alpha: 0.3 }',
    'type: "Exp" exp_param { base: 2 scale: 0.5 shift: -1 }',
    'type: "Exp"',
    'type: "Power" power_param { power: 2 scale: 0.5 shift: 1 }',
    'type: "Power" power_param { power: 3 }',
    'type: "Power" power_param { scale: 0.25 }',
    'type: "Power" power_param { power: 0 shift: 3 }',
    'type: "Power" power_param { power: 0.5 }',  # NaN for negative values, in both
    'type: "Log" log_param { base: 10 scale: 0.1 shift: 9 }',
    'type: "Swish" swish_param { beta: 1.5 }',
    'type: "Threshold" threshold_param { threshold: 0.2 }',
    'type: "Softmax"',
    'type: "PReLU"',
    'type: "PReLU" prelu_param { channel_shared: true }',
]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("shape", ["2 3", "2 4 3", "1 3 5 4"])
def test_any_shape(export: Export, layer: str, shape: str) -> None:
    done = export(one_layer(layer, shape))
    assert done.free_batch
    assert done.nodes <= 4


@pytest.mark.parametrize("axis", [0, 2, -1])
def test_softmax_axis(export: Export, axis: int) -> None:
    export(one_layer(f'type: "Softmax" softmax_param {{ axis: {axis} }}', "2 3 4"))


def test_nan_becomes_the_minimum_of_clip(export: Export) -> None:
    x = np.array([[np.nan, -3, np.inf]], np.float32)
    layer = 'type: "Clip" clip_param { min: -1 max: 1 }'
    export(one_layer(layer, "1 3"), check_inputs={"x0": x})


def test_large_values_of_bnll(export: Export) -> None:
    x = np.array([[-200, -50, 50, 200]], np.float32)
    export(one_layer('type: "BNLL"', "1 4"), check_inputs={"x0": x})


def test_dropout_is_gone(export: Export) -> None:
    text = one_layer('type: "Dropout"', "2 3", tops='top: "d"')
    done = export(text + 'layer { name: "r" type: "ReLU" bottom: "d" top: "y" }')
    assert done.nodes == 1


@pytest.mark.parametrize(
    "layer",
    [
        'type: "ReLU6"',
        'type: "ReLU6" relu6_param { negative_slope: 0.1 }',
        'type: "NegReLU" relu_param { negative_slope: 0.1 }',
        'type: "Truncation" truncation_param { lower_bound: -0.3 upper_bound: 0.4 }',
        'type: "SoftTruncation" soft_truncation_param { c: 0.7 }',
        'type: "SoftTruncation" soft_truncation_param { c: -2 }',
    ],
)
def test_functions_of_forks(export: Export, layer: str) -> None:
    export(one_layer(layer, "2 3 4"))
