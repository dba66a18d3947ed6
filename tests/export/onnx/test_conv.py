from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer

WINDOWS = [
    "kernel_size: 1",
    "kernel_size: 3 pad: 1",
    "kernel_size: 3 stride: 2",
    "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 2 pad_h: 2 pad_w: 0",
    "kernel_size: 3 dilation: 2 pad: 2",
    "kernel_size: 2 stride: 20",
    "kernel_size: 3 stride: 2 pad_t: 1 pad_r: 2",
]


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("options", ["", "group: 2", "bias_term: false"])
def test_windows(export: Export, kind: str, window: str, options: str) -> None:
    layer = f'type: "{kind}" convolution_param {{ num_output: 4 {window} {options} }}'
    assert export(one_layer(layer, "2 6 7 8")).nodes == 1


@pytest.mark.parametrize("kind", ["Convolution", "Im2col"])
def test_a_kernel_that_reaches_beyond_the_image(export: Export, kind: str) -> None:
    layer = f'type: "{kind}" convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 }}'
    export(one_layer(layer, "2 3 2 5"))


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("shape", ["2 3 9", "1 2 5 6 7"])
def test_one_and_three_axes(export: Export, kind: str, shape: str) -> None:
    layer = f'type: "{kind}" convolution_param {{ num_output: 4 kernel_size: 3 stride: 2 }}'
    export(one_layer(layer, shape))


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_no_spatial_axis(export: Export, kind: str) -> None:
    export(one_layer(f'type: "{kind}" convolution_param {{ num_output: 4 }}', "2 3"))


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize(("axis", "shape"), [(2, "2 3 4 5 5"), (0, "4 5 5")])
def test_other_batch_axes(export: Export, kind: str, axis: int, shape: str) -> None:
    layer = f'type: "{kind}" convolution_param {{ num_output: 4 axis: {axis} kernel_size: 3 }}'
    export(one_layer(layer, shape))


def test_bottoms_share_the_kernels(export: Export) -> None:
    layer = 'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 }'
    done = export(one_layer(layer, "2 3 5 5", "2 3 8 6", tops='top: "y" top: "z"'))
    assert list(done.outputs) == ["y", "z"]


@pytest.mark.parametrize("window", WINDOWS)
def test_im2col(export: Export, window: str) -> None:
    export(one_layer(f'type: "Im2col" convolution_param {{ {window} }}', "2 3 7 8"))


@pytest.mark.parametrize(
    "layer",
    [
        'type: "DepthwiseConvolution" convolution_param { num_output: 8 kernel_size: 3 }',
        'type: "ConvolutionDepthwise" convolution_param { num_output: 4 kernel_size: 3 }',
        'type: "Convolution" convolution_param { num_output: 4 kernel_size: 3 relu: true }',
    ],
)
def test_forms_of_forks(export: Export, layer: str) -> None:
    export(one_layer(layer, "2 4 5 6"))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("BinaryConvolution", "binary_convolution_param { use_alpha: true }"),
        ("CConvolution", "cconvolution_param { }"),
    ],
)
def test_weights_that_are_changed_on_the_way(export: Export, kind: str, more: str) -> None:
    layer = f'type: "{kind}" convolution_param {{ num_output: 4 kernel_size: 3 group: 2 }} {more}'
    assert export(one_layer(layer, "2 4 5 6")).free_batch
