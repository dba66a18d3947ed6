from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError


@pytest.mark.parametrize(
    "options",
    ["", "factor: 3", "linear_term: false", "quadratic_term: false", "bias_term: false group: 2",
     "group: 2 factor: 2 linear_term: false", "kernel_h: 1 kernel_w: 2 pad_h: 0 pad_w: 1"],
)  # fmt: skip
def test_colinear_convolution(export: Export, options: str) -> None:
    window = "" if "kernel" in options else "kernel_size: 2 stride: 2 pad: 1"
    options = f"num_output: 4 {window} {options}"
    layer = f'type: "ColinearConvolution" colinear_convolution_param {{ {options} }}'
    assert export(one_layer(layer, "2 2 5 4")).free_batch


def test_a_kernel_without_spatial_axes_is_refused(export: Export) -> None:
    layer = 'type: "ColinearConvolution" colinear_convolution_param { num_output: 4 }'
    with pytest.raises(NetError, match=r'layer "it" .*without spatial axes has no form in ONNX'):
        export(one_layer(layer, "2 3"))
