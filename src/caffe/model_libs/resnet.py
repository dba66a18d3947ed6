"""Residual nets (He, Zhang, Ren and Sun, "Deep residual learning", CVPR 2016)."""

from __future__ import annotations

from typing import Any

from caffe import layers as L
from caffe import params as P
from caffe.model_libs.convolution import ConvBNLayer, Options
from caffe.net_spec import NetSpec


def ResBody(
    net: NetSpec,
    from_layer: str,
    block_name: str,
    out2a: int,
    out2b: int,
    out2c: int,
    stride: int,
    use_branch1: bool,
    dilation: int = 1,
    **bn_param: Any,
) -> None:
    """Add a residual block, (N, C, H, W) to (N, out2c, H / stride, W / stride).

    res<block_name> is the sum of branch2 (convolutions of 1x1, 3x3 and 1x1 to out2a, out2b and
    out2c channels) and of the block's input.

    Args:
        use_branch1: the input is projected by a convolution, branch1.
        dilation: of the convolution of 3x3.
        bn_param: options of BatchNorm; see `ConvBNLayer`.
    """

    def branch(
        bottom: str, name: str, num_output: int, size: int, stride: int, dilation: int, relu: bool
    ) -> str:
        """Add a convolution, and return its name."""
        ConvBNLayer(
            net,
            bottom,
            name,
            use_bn=True,
            use_relu=relu,
            num_output=num_output,
            kernel_size=size,
            pad=dilation * (size // 2),
            stride=stride,
            dilation=dilation,
            conv_prefix=f"res{block_name}_",
            bn_prefix=f"bn{block_name}_",
            bn_postfix="",
            scale_prefix=f"scale{block_name}_",
            scale_postfix="",
            **bn_param,
        )
        return f"res{block_name}_{name}"

    shortcut = from_layer
    if use_branch1:
        shortcut = branch(from_layer, "branch1", out2c, 1, stride, 1, relu=False)
    last = branch(from_layer, "branch2a", out2a, 1, stride, 1, relu=True)
    last = branch(last, "branch2b", out2b, 3, 1, dilation, relu=True)
    last = branch(last, "branch2c", out2c, 1, 1, 1, relu=False)
    name = f"res{block_name}"
    net[name] = L.Eltwise(net[shortcut], net[last])
    net[f"{name}_relu"] = L.ReLU(net[name], in_place=True)


def ResNet101Body(
    net: NetSpec,
    from_layer: str,
    use_pool5: bool = True,
    use_dilation_conv5: bool = False,
    **bn_param: Any,
) -> NetSpec:
    """Add ResNet-101: res3b3 (N, 512, H / 8, W / 8), res4b22 (N, 1024, H / 16, W / 16) and
    res5c (N, 2048, H / 32, W / 32).

    Args:
        use_pool5: add pool5 (N, 2048, 1, 1).
        use_dilation_conv5: the last stage is dilated, and keeps the size H / 16 x W / 16.
        bn_param: options of BatchNorm; see `ConvBNLayer`.
    """
    return _resnet(net, from_layer, 4, 23, use_pool5, use_dilation_conv5, **bn_param)


def ResNet152Body(
    net: NetSpec,
    from_layer: str,
    use_pool5: bool = True,
    use_dilation_conv5: bool = False,
    **bn_param: Any,
) -> NetSpec:
    """Add ResNet-152, as `ResNet101Body` does; its maps are res3b7, res4b35 and res5c."""
    return _resnet(net, from_layer, 8, 36, use_pool5, use_dilation_conv5, **bn_param)


def _resnet(
    net: NetSpec,
    from_layer: str,
    depth3: int,
    depth4: int,
    use_pool5: bool,
    use_dilation_conv5: bool,
    **bn_param: Any,
) -> NetSpec:
    """Add a net whose stages have 3, depth3, depth4 and 3 blocks."""
    conv1: Options = dict(num_output=64, kernel_size=7, pad=3, stride=2)
    names: Options = dict(bn_prefix="bn_", bn_postfix="", scale_prefix="scale_", scale_postfix="")
    ConvBNLayer(net, from_layer, "conv1", True, True, **conv1, **names, **bn_param)
    net.pool1 = L.Pooling(net.conv1, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    last, channels = "pool1", 64
    stages = (
        ["2a", "2b", "2c"],
        ["3a", *(f"3b{i}" for i in range(1, depth3))],
        ["4a", *(f"4b{i}" for i in range(1, depth4))],
        ["5a", "5b", "5c"],
    )
    for first, *others in stages:
        dilation = 2 if use_dilation_conv5 and first == "5a" else 1
        shrinks = first != "2a" and dilation == 1
        for name in (first, *others):
            ResBody(
                net,
                last,
                name,
                out2a=channels,
                out2b=channels,
                out2c=4 * channels,
                stride=2 if shrinks and name == first else 1,
                use_branch1=name == first,
                dilation=dilation,
                **bn_param,
            )
            last = f"res{name}"
        channels *= 2
    if use_pool5:
        net.pool5 = L.Pooling(net[last], pool=P.Pooling.AVE, global_pooling=True)
    return net
