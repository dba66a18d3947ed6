from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.fresh import run_program

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape
from tests.layers.slow_conv import CASES, convolve, deconvolve, layer_text


@pytest.mark.parametrize(("fields", "shape", "stride", "pad", "dilation", "group"), CASES)
def test_convolution_is_the_sum_over_the_window(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    shape: Shape,
    stride: Shape,
    pad: Shape,
    dilation: Shape,
    group: int,
) -> None:
    layer = make_layer(layer_text(fields), shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    wanted = convolve(x, weight, bias, stride=stride, pad=pad, dilation=dilation, group=group)
    # Both in double precision, sums of at most 27 terms.
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("window", "shape", "at_the_end"),
    [
        ("kernel_size: 3 stride: 2", (1, 2, 2, 5), (1, 0)),
        ("kernel_size: 4 stride: 3", (1, 2, 2, 2), (2, 2)),
        ("kernel_size: 2 stride: 3 dilation: 4 pad: 1", (1, 2, 2, 3), (1, 0)),
        ("kernel_size: 3 stride: 2", (1, 2, 2, 5, 4), (1, 0, 0)),
    ],
)
@pytest.mark.parametrize("kind", ["Convolution", "Im2col"])
def test_a_kernel_may_reach_less_than_a_stride_beyond_the_image(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    kind: str,
    window: str,
    shape: Shape,
    at_the_end: Shape,
) -> None:
    """(in - extent) / stride is rounded towards 0 by BVLC Caffe, which reads zeros there."""
    text = f'type: "{kind}" convolution_param {{ num_output: 3 {window} }}'
    layer = make_layer(text, shape)
    x = spread(*shape)
    wider = np.pad(x, [(0, 0), (0, 0), *((0, n) for n in at_the_end)])
    other = make_layer(text, wider.shape)
    other.load_state_dict(layer.state_dict())
    (y,) = run(layer, x)
    assert y.shape == layer.first_top_shapes[0]
    np.testing.assert_allclose(y, run(other, wider)[0], rtol=1e-11)
    check_gradient(layer, x)


@pytest.mark.parametrize("stride", [30, 10**6, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("pad", [0, 1])
def test_a_stride_past_the_image(
    make_layer: LayerMaker, spread: Spread, kind: str, stride: int, pad: int
) -> None:
    """PyTorch's backward crashes the process for such strides, in single precision."""
    shape = (1, 2, 4, 4) if kind == "Convolution" else (1, 2, 1, 1)
    fields = f"kernel_size: 4 pad: {pad} stride: "
    text = layer_text(f"{fields}{stride}").replace("Convolution", kind, 1)
    far = make_layer(text, shape)
    near = make_layer(text.replace(str(stride), "9"), shape)
    near.load_state_dict(far.state_dict())
    values, gradients = torch.from_numpy(spread(*shape)).float(), []
    for layer in (far, near):
        x = values.clone().requires_grad_()
        (y,) = layer(x)
        assert tuple(y.shape) == layer.first_top_shapes[0]
        gradients.append(torch.autograd.grad(y.square().sum(), [x, *layer.weights]))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_without_bias(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    layer = make_layer(layer_text("kernel_size: 2 bias_term: false"), (1, 2, 3, 3))
    assert layer.blob_shapes == [(4, 2, 2, 2)]
    (y,) = run(layer, np.zeros((1, 2, 3, 3)))
    assert not y.any()


@pytest.mark.parametrize(
    ("axis", "shape", "top"),
    [(1, (2, 3, 5, 5), (2, 4, 3, 3)), (2, (2, 2, 3, 5, 5), (2, 2, 4, 3, 3)), (-3, (3, 5, 5), None)],
)
def test_axes_before_axis_are_batch_axes(
    make_layer: LayerMaker, run: Runner, spread: Spread, axis: int, shape: Shape, top: Shape | None
) -> None:
    layer = make_layer(layer_text(f"kernel_size: 3 axis: {axis}"), shape)
    x = spread(*shape)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    one = {"stride": (1, 1), "pad": (0, 0), "dilation": (1, 1)}
    wanted = convolve(x.reshape(-1, 3, 5, 5), weight, bias, group=1, **one)
    assert y.shape == (top or (4, 3, 3))
    # Both in double precision.
    np.testing.assert_allclose(y.reshape(wanted.shape), wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_batch_axes_before_other_spatial_axes(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread, kind: str
) -> None:
    text = layer_text("kernel_size: 2 stride: 2 axis: 2").replace("Convolution", kind, 1)
    layer = make_layer(text, (2, 3, 2, 5))
    x = spread(2, 3, 2, 5)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    slow = convolve if kind == "Convolution" else deconvolve
    wanted = slow(x.reshape(6, 2, 5), weight, bias, stride=(2,), pad=(0,), dilation=(1,), group=1)
    # Both in double precision.
    np.testing.assert_allclose(y, wanted.reshape(2, 3, *wanted.shape[1:]), rtol=1e-11, atol=1e-12)
    check_gradient(layer, x)


@pytest.mark.parametrize("fields", ["engine: CAFFE", "engine: CUDNN", "force_nd_im2col: true"])
@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
def test_the_implementation_asked_for_changes_nothing(
    make_layer: LayerMaker, run: Runner, spread: Spread, kind: str, fields: str
) -> None:
    text = layer_text("kernel_size: 2 group: 2").replace("Convolution", kind, 1)
    one = make_layer(text, (1, 2, 3, 4))
    other = make_layer(text.replace("group", f"{fields} group"), (1, 2, 3, 4))
    other.load_state_dict(one.state_dict())
    x = spread(1, 2, 3, 4)
    np.testing.assert_array_equal(run(one, x), run(other, x))


def test_no_spatial_axes_is_an_inner_product(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer(layer_text("kernel_size: 1"), (2, 3))
    x = spread(2, 3)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    wanted = [[bias[m] + sum(weight[m, c] * x[n, c] for c in range(3)) for m in range(4)]
              for n in range(2)]  # fmt: skip
    np.testing.assert_allclose(y, wanted, rtol=1e-12)  # both in double precision
    check_gradient(layer, x)


def test_several_bottoms_share_the_kernels(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    text = layer_text("kernel_size: 2", outputs=2) + 'bottom: "a" bottom: "b" top: "c" top: "d"'
    shapes = [(1, 2, 3, 3), (2, 2, 2, 4)]
    layer = make_layer(text, *shapes)
    bottoms = [spread(*shape) for shape in shapes]
    assert len(layer.weights) == 2
    for y, x in zip(run(layer, *bottoms), bottoms, strict=True):
        (alone,) = run(layer, x)
        np.testing.assert_array_equal(y, alone)
    check_gradient(layer, *bottoms)


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("", [(1, 2, 5, 5)], "kernel_size is missing"),
        ("kernel_size: 3 group: 3", [(1, 2, 5, 5)], "channels must be a multiple of group 3, got"),
        ("kernel_size: 3 group: 3", [(1, 3, 5, 5)], "num_output must be a multiple of group 3"),
        ("kernel_size: 7", [(1, 2, 5, 5)], r"the kernel \(7\) is larger than the padded image"),
        ("kernel_size: 3 dilation: 3", [(1, 2, 5, 9)], r"the kernel \(7\) is larger than"),
        ("kernel_size: 1", [(1, 2, 0, 2)], r"only the batch may be empty, got .*\(1, 2, 0, 2\)"),
        ("kernel_size: 1", [(1, 2, 5, 5), (1, 3, 5, 5)], "must have 2 channels and 4 axes"),
        ("kernel_size: 0", [(1, 2, 5, 5)], "kernel_size must be > 0, got 0"),
        ("kernel_size: 1 stride: 0", [(1, 2, 5, 5)], "stride must be > 0, got 0"),
        ("kernel_size: 1 group: 0", [(1, 2, 5, 5)], "group must be > 0, got 0"),
        ("kernel_h: 2 kernel_w: 2", [(1, 2, 5)], "kernel_h and kernel_w are for two spatial axes"),
        ("kernel_h: 2 kernel_w: 2", [(1, 2, 5, 5, 5)], "for two spatial axes, here are 3"),
        ("kernel_size: 2 stride_h: 2 stride_w: 1", [(1, 2, 5)], "stride_h and stride_w are for"),
        ("kernel_size: 2 pad_h: 1 pad_w: 1", [(1, 2, 5)], "pad_h and pad_w are for two spatial"),
        ("kernel_size: 2 dilation: 1 dilation: 2", [(1, 2, 5, 5, 5)], "3 spatial axes, got 2 val"),
        ("kernel_size: 1 axis: 4", [(1, 2, 5, 5)], "axis 4 does not exist"),
        ("num_output: 0 kernel_size: 1", [(1, 2, 5, 5)], "num_output must be > 0, got 0"),
        ("kernel_size: 3 kernel_h: 3 kernel_w: 3", [(1, 2, 5, 5)], "give either kernel_size or"),
    ],
)
def test_refused(make_layer: LayerMaker, fields: str, shapes: list[Shape], message: str) -> None:
    output = "" if "num_output" in fields else "num_output: 4"
    text = f'type: "Convolution" convolution_param {{ {output} {fields} }}'
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def test_num_output_is_needed(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="num_output"):
        make_layer('type: "Convolution" convolution_param { kernel_size: 1 }', (1, 2, 5, 5))


@pytest.mark.parametrize(
    ("text", "shape", "message"),
    [
        (
            'type: "Deconvolution" convolution_param { num_output: 1 kernel_size: 2 pad: 2 }',
            (1, 1, 2, 3),
            r"the padding leaves no output: its size is \[-1, 0\]",
        ),
        (
            'type: "Deconvolution" convolution_param { num_output: 3 kernel_size: 2 group: 2 }',
            (1, 2, 3, 3),
            "num_output must be a multiple of group 2, got 3",
        ),
        ('type: "Im2col"', (1, 1, 3, 3), "kernel_size is missing"),
        (
            'type: "Im2col" convolution_param { kernel_size: 2 }',
            (1, 3),
            r"needs spatial axes after axis 1, got shape \(1, 3\)",
        ),
        (
            'type: "Im2col" convolution_param { kernel_size: 4 }',
            (1, 1, 3, 3),
            r"the kernel \(4\) is larger than the padded image",
        ),
    ],
)
def test_other_layers_refuse(make_layer: LayerMaker, text: str, shape: Shape, message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, shape)


@pytest.mark.parametrize(
    ("fields", "slope"),
    [
        ("relu: true", 0.0),
        ("relu: true negative_slope: 0.25", 0.25),
        ("negative_slope: 0.25", None),
        ("fuse_type: FUSED_CONV_RELU", 0.0),
        ("fuse_type: FUSED_CONV_RELU relu_param { negative_slope: 0.5 }", 0.5),
    ],
)
def test_a_rectifier_inside(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    slope: float | None,
) -> None:
    text = (
        f'type: "Convolution" convolution_param {{ {fields} num_output: 2 kernel_size: 2'
        ' weight_filler { type: "gaussian" } }'
    )
    layer = make_layer(text, (1, 2, 3, 3))
    x = spread(1, 2, 3, 3)
    (y,) = run(layer, x)
    weight, bias = (w.detach().double().numpy() for w in layer.weights)
    wanted = convolve(x, weight, bias, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1)
    if slope is not None:
        wanted = np.where(wanted > 0, wanted, slope * wanted)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision
    check_gradient(layer, x)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("fuse_type: FUSED_CONV_ELTWISE", "fuse_type FUSED_CONV_ELTWISE is not supported"),
        (
            "fusion_type: SUM_FUSION",
            "fusion_type } is an option of a fork that this layer does not",
        ),
    ],
)
def test_sums_inside_are_refused(make_layer: LayerMaker, fields: str, message: str) -> None:
    text = f'type: "Convolution" convolution_param {{ {fields} num_output: 2 kernel_size: 1 }}'
    with pytest.raises(NetError, match=message):
        make_layer(text, (1, 2, 3, 3))


SIDES = [(1, 0, 0, 2), (0, 1, 3, 1), (2, 1, 0, 0)]  # above, below, to the left, to the right


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("fields", ["stride: 2", "dilation: 2", "group: 2"])
def test_sides_padded_by_themselves(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    sides: tuple[int, ...],
    fields: str,
) -> None:
    """As if the image had these zeros around it."""
    given = " ".join(f"pad_{side}: {n}" for side, n in zip("tblr", sides, strict=True))
    layer = make_layer(layer_text(f"kernel_size: 3 {fields} {given}"), (2, 2, 6, 7))
    x = spread(2, 2, 6, 7)
    (y,) = run(layer, x)
    weight, bias = (w.detach().numpy() for w in layer.weights)
    wanted = convolve(
        np.pad(x, ((0, 0), (0, 0), sides[:2], sides[2:])),
        weight,
        bias,
        stride=(2, 2) if "stride" in fields else (1, 1),
        pad=(0, 0),
        dilation=(2, 2) if "dilation" in fields else (1, 1),
        group=2 if "group" in fields else 1,
    )
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # double precision
    check_gradient(layer, x)


def test_the_gradient_of_few_kernels_of_one_pixel_stays_in_its_memory() -> None:
    """On one thread; in a process of its own, which ended by a signal."""
    program = """
import torch
from moka.layers.conv import convolution
from moka.layers.window import Window
torch.set_num_threads(1)
for channels, kernels, size in [(2, 2, 4), (3, 4, 8), (7, 1, 8)] * 100:
    x = torch.randn(4, channels, size, size).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(kernels, channels, 1, 1, requires_grad=True)
    bias = torch.randn(kernels, requires_grad=True)
    y = convolution(x, weight, bias, windows=[Window(1, 2)] * 2, group=1)
    y.square().sum().backward()
    expected = torch.einsum("nohw,nchw->oc", 2 * y, x[:, :, ::2, ::2])
    torch.testing.assert_close(weight.grad[..., 0, 0], expected, rtol=1e-3, atol=1e-3)
"""
    assert run_program(program).returncode == 0
