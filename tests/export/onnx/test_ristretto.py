from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

EIGHT_BITS = (
    "bw_layer_in: 8 bw_layer_out: 8 bw_params: 8 fl_layer_in: 4 fl_layer_out: 5 fl_params: 6"
)
WINDOW = "num_output: 4 kernel_size: 3 stride: 2 pad: 1"
KINDS = {
    "ConvolutionRistretto": f"convolution_param {{ {WINDOW} }}",
    "DeconvolutionRistretto": f"convolution_param {{ {WINDOW} group: 2 }}",
    "FcRistretto": "inner_product_param { num_output: 3 }",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "how",
    ["", EIGHT_BITS, "precision: INTEGER_POWER_OF_2_WEIGHTS exp_min: -6 exp_max: -1"],
)
def test_values_are_rounded_as_in_the_layer(export: Export, kind: str, how: str) -> None:
    text = one_layer(f'type: "{kind}" {KINDS[kind]} quantization_param {{ {how} }}', "2 2 5 6")
    assert export(text).free_batch


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("how", "why"),
    [("precision: MINIFLOAT", "floats of few bits"), ("rounding_scheme: STOCHASTIC", "by chance")],
)
def test_no_form(export: Export, kind: str, how: str, why: str) -> None:
    text = one_layer(f'type: "{kind}" {KINDS[kind]} quantization_param {{ {how} }}', "2 2 5 6")
    with pytest.raises(NetError, match=rf'layer "it" \({kind}\): cannot be exported: .*{why}'):
        export(text)
