from __future__ import annotations

import pytest

from moka.opencv import readNetFromCaffe

INPUT = """
layer { name: "data" type: "Input" top: "data"
        input_param { shape { dim: 1 dim: 6 dim: 5 dim: 4 } } }
"""
STRIDED = "kernel_size: 3 stride: 2"
PRIORS = "min_size: 3 max_size: 5 aspect_ratio: 2 variance: 0.1"


@pytest.mark.parametrize(
    ("layer", "measured"),  # with OpenCV 4.14
    [
        ('type: "AbsVal"', 120),
        ('type: "BNLL"', 600),
        ('type: "Exp"', 360),
        ('type: "Log"', 120),
        ('type: "MVN"', 738),
        ('type: "Dropout"', 0),
        ('type: "LRN" lrn_param { local_size: 7 }', 700),
        ('type: "LRN" lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 }', 2400),
        ('type: "Pooling" pooling_param { pool: AVE global_pooling: true }', 12),
        ('type: "Pooling" pooling_param { kernel_h: 2 kernel_w: 3 }', 288),
        ('type: "Power" power_param { scale: 3 }', 240),
        ('type: "Power" power_param { power: 2 }', 1200),
        ('type: "Eltwise" bottom: "data" bottom: "data"', 360),
        ('type: "InnerProduct" inner_product_param { num_output: 4 axis: 2 }', 1440),
        ('type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 group: 2 }', 2616),
        (f'type: "Deconvolution" convolution_param {{ num_output: 4 {STRIDED} }}', 12960),
        (f'type: "PriorBox" bottom: "data" prior_box_param {{ {PRIORS} }}', 640),
    ],
)  # fmt: skip
def test_as_opencv_counts(layer: str, measured: int) -> None:
    net = readNetFromCaffe(
        f'{INPUT} layer {{ name: "x" bottom: "data" {layer} top: "x" }}'.encode()
    )
    assert net.getFLOPS(1, (1, 6, 5, 4)) == measured
