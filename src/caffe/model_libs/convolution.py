"""Convolutions, and what follows them."""

from __future__ import annotations

from typing import Any

from caffe import layers as L
from caffe.net_spec import NetSpec, Top

Options = dict[str, Any]  # fields of a layer

FROZEN = dict(lr_mult=0, decay_mult=0)


def UnpackVariable(var: Any, num: int) -> list[Any]:
    """`num` values: those of a list, or one value (or the one of a list) so many times.

    Raises:
        ValueError: the list has another length.
    """
    values = list(var) if isinstance(var, list | tuple) else [var]
    if len(values) not in (1, num):
        raise ValueError(f"{var} has {len(values)} values: give 1 or {num}.")
    return values if len(values) == num else values * num


def ConvBNLayer(
    net: NetSpec,
    from_layer: str,
    out_layer: str,
    use_bn: bool,
    use_relu: bool,
    num_output: int,
    kernel_size: int | list[int],
    pad: int | list[int],
    stride: int | list[int],
    dilation: int = 1,
    use_scale: bool = True,
    lr_mult: float = 1,
    conv_prefix: str = "",
    conv_postfix: str = "",
    bn_prefix: str = "",
    bn_postfix: str = "_bn",
    scale_prefix: str = "",
    scale_postfix: str = "_scale",
    bias_prefix: str = "",
    bias_postfix: str = "_bias",
    *,
    eps: float = 0.001,
    moving_average_fraction: float = 0.999,
    use_global_stats: bool = False,
) -> None:
    """Add a convolution, (N, C, H, W) to (N, num_output, H', W'), and layers in place on it.

    With `use_bn` the convolution has no biases, and BatchNorm and Scale follow, or Bias in place of
    Scale if not `use_scale`; with `use_relu` then ReLU. A layer's name is `out_layer` between the
    prefix and the postfix of its kind; ReLU's is that of the convolution and "_relu".

    Args:
        kernel_size, pad, stride: a number, or those of height and width. As in SSD, the width has
            a pad and a stride of its own only where the kernel is not square.
        lr_mult: of the weights; that of the biases is twice as large.
        eps, moving_average_fraction: of BatchNorm.
        use_global_stats: BatchNorm takes its stored statistics in training, too, and what follows
            it is not trained.
    """
    options = _window(kernel_size, pad, stride)
    options |= _unbiased(lr_mult) if use_bn else filled(lr_mult)
    if dilation > 1:
        options["dilation"] = dilation
    name = f"{conv_prefix}{out_layer}{conv_postfix}"
    net[name] = L.Convolution(net[from_layer], num_output=num_output, **options)
    if use_bn:
        statistics: Options = dict(moving_average_fraction=moving_average_fraction)
        if use_global_stats:
            statistics, lr_mult = dict(use_global_stats=True), 0
        top = L.BatchNorm(net[name], in_place=True, param=[FROZEN] * 3, eps=eps, **statistics)
        net[f"{bn_prefix}{out_layer}{bn_postfix}"] = top
        if use_scale:
            net[f"{scale_prefix}{out_layer}{scale_postfix}"] = _scale(top, lr_mult)
        else:
            net[f"{bias_prefix}{out_layer}{bias_postfix}"] = _bias(top, lr_mult)
    if use_relu:
        net[f"{name}_relu"] = L.ReLU(net[name], in_place=True)


def filled(lr_mult: float = 1) -> Options:
    """How a convolution with biases is filled and trained: biases twice as fast, without decay."""
    return dict(
        param=[dict(lr_mult=lr_mult, decay_mult=1), dict(lr_mult=2 * lr_mult, decay_mult=0)],
        weight_filler=dict(type="xavier"),
        bias_filler=dict(type="constant", value=0),
    )


def _unbiased(lr_mult: float) -> Options:
    """How a convolution that is normalized is filled and trained."""
    return dict(
        param=[dict(lr_mult=lr_mult, decay_mult=1)],
        weight_filler=dict(type="gaussian", std=0.01),
        bias_term=False,
    )


def _scale(bottom: Top, lr_mult: float) -> Top:
    return L.Scale(
        bottom,
        in_place=True,
        param=[dict(lr_mult=lr_mult, decay_mult=0)] * 2,
        bias_term=True,
        filler=dict(type="constant", value=1.0),
        bias_filler=dict(type="constant", value=0.0),
    )


def _bias(bottom: Top, lr_mult: float) -> Top:
    return L.Bias(
        bottom,
        in_place=True,
        param=[dict(lr_mult=lr_mult, decay_mult=0)],
        filler=dict(type="constant", value=0.0),
    )


def _window(kernel_size: int | list[int], pad: int | list[int], stride: int | list[int]) -> Options:
    """A convolution's fields for these sizes, by axis if the kernel is not square."""
    (kernel_h, kernel_w), (pad_h, pad_w), (stride_h, stride_w) = (
        UnpackVariable(size, 2) for size in (kernel_size, pad, stride)
    )
    if kernel_h == kernel_w:
        return dict(kernel_size=kernel_h, pad=pad_h, stride=stride_h)
    return dict(
        kernel_h=kernel_h,
        kernel_w=kernel_w,
        pad_h=pad_h,
        pad_w=pad_w,
        stride_h=stride_h,
        stride_w=stride_w,
    )
