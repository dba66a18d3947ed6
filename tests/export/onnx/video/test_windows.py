from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

C3D = "kernel_size: 3 kernel_depth: 2 pad: 1 temporal_pad: 1 stride: 2 temporal_stride: 1"


@pytest.mark.parametrize("bias", ["", "bias_term: false"])
@pytest.mark.parametrize("message", ["convolution3d_param", "convolution_param"])
@pytest.mark.parametrize("kind", ["Convolution3D", "Deconvolution3D"])
def test_c3d(export: Export, kind: str, message: str, bias: str) -> None:
    layer = f'type: "{kind}" {message} {{ num_output: 4 {C3D} {bias} }}'
    assert export(one_layer(layer, "2 2 5 6 7")).free_batch


@pytest.mark.parametrize("group", ["group: 2", "filter_group: 2"])
@pytest.mark.parametrize("kind", ["Convolution3D", "Deconvolution3D"])
def test_groups(export: Export, kind: str, group: str) -> None:
    if kind == "Convolution3D" and "filter" in group:
        pytest.skip("filter_group has no effect there")
    message = "convolution_param" if group == "group: 2" else "convolution3d_param"
    layer = f'type: "{kind}" {message} {{ num_output: 4 {C3D} {group} }}'
    export(one_layer(layer, "1 2 4 5 6"))


def test_a_window_for_each_axis(export: Export) -> None:
    shapes = "kernel_shape { dim: 2 dim: 3 dim: 1 } stride_shape { dim: 1 dim: 2 dim: 1 }"
    pads = "pad_shape { dim: 1 dim: 0 dim: 0 }"
    layer = f'type: "NdConvolution" convolution_param {{ num_output: 3 {shapes} {pads} }}'
    assert export(one_layer(layer, "2 2 4 5 6")).free_batch
    for pool in ("MAX", "AVE"):
        layer = f'type: "NdPooling" pooling_param {{ pool: {pool} {shapes} {pads} }}'
        assert export(one_layer(layer, "2 2 4 6 6")).free_batch


@pytest.mark.parametrize("shape", ["2 2 5 6 7", "1 1 4 9 8"])
@pytest.mark.parametrize(
    "options",
    [
        "pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2 temporal_stride: 1",
        "pool: MAX kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 2",
        "pool: AVE kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 2 pad: 1",
        "pool: AVE kernel_size: 2 kernel_depth: 2 stride: 3 temporal_stride: 3 pad: 1",
    ],
)
def test_pooling_3d(export: Export, options: str, shape: str) -> None:
    assert export(one_layer(f'type: "Pooling3D" pooling3d_param {{ {options} }}', shape)).free_batch
