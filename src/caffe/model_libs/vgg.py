"""VGG-16 (Simonyan and Zisserman, 2015), also dilated as in DeepLab (Chen et al., 2015)."""

from __future__ import annotations

from collections.abc import Iterable

from caffe import layers as L
from caffe import params as P
from caffe.model_libs.convolution import Options, filled
from caffe.model_libs.numbered import conv_relu, fc6_and_fc7, freeze
from caffe.net_spec import NetSpec, Top

BLOCKS = ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512))  # convolutions and their channels
FC6 = {  # as a convolution, by (dilated, reduced): kernel size and dilation
    (True, True): (3, 6),
    (True, False): (7, 2),
    (False, True): (3, 3),
    (False, False): (7, 1),
}


def VGGNetBody(
    net: NetSpec,
    from_layer: str,
    need_fc: bool = True,
    fully_conv: bool = False,
    reduced: bool = False,
    dilated: bool = False,
    nopool: bool = False,
    dropout: bool = True,
    freeze_layers: Iterable[str] = (),
    dilate_pool4: bool = False,
) -> NetSpec:
    """Add VGG-16: conv4_3 (N, 512, H / 8, W / 8), conv5_3 (N, 512, H / 16, W / 16), fc6, fc7.

    SSD takes it fully_conv, reduced and dilated: fc7 is (N, 1024, H / 16, W / 16).

    Args:
        need_fc: add pool5, fc6 and fc7.
        fully_conv: fc6 and fc7 are convolutions of 4096 channels; else InnerProduct layers.
        reduced: as convolutions they have 1024 channels, and fc6 a kernel of 3, not 7.
        dilated: pool5 keeps the size of its map, and fc6 is dilated.
        nopool: in place of a pool, a block ends in one more convolution (conv1_3, ...).
        dropout: add Dropout after fc6 and fc7.
        freeze_layers: convolutions that are not trained; names that the net lacks are skipped.
        dilate_pool4: pool4 keeps the size of its map, and later layers are dilated twice as much.
    """
    top, dilation = net[from_layer], 1
    for block, (depth, channels) in enumerate(BLOCKS, 1):
        # SSD writes out the dilation of the last block, even if it is 1.
        window = _centered(3, dilation) if block == 5 else dict(kernel_size=3, pad=1)
        for i in range(1, depth + 1):
            top = conv_relu(net, top, f"{block}_{i}", num_output=channels, **window)
        if block == 5 and not need_fc:
            break
        keeps_size = {4: dilate_pool4, 5: dilated}.get(block, False)
        end = f"conv{block}_{depth + 1}" if nopool else f"pool{block}"
        net[end] = top = _strided(top, channels, keeps_size) if nopool else _pool(top, keeps_size)
        if block == 4 and keeps_size:
            dilation = 2
    if need_fc:
        kernel_size, factor = FC6[bool(dilated), bool(reduced)]
        fc6 = _centered(kernel_size, factor * dilation) if fully_conv else None
        fc6_and_fc7(net, top, fc6, reduced, dropout)
    freeze(net, freeze_layers)
    return net


def _centered(kernel_size: int, dilation: int) -> Options:
    """A window that keeps the size of a map."""
    return dict(kernel_size=kernel_size, dilation=dilation, pad=dilation * (kernel_size - 1) // 2)


def _pool(bottom: Top, keeps_size: bool) -> Top:
    window = dict(kernel_size=3, stride=1, pad=1) if keeps_size else dict(kernel_size=2, stride=2)
    return L.Pooling(bottom, pool=P.Pooling.MAX, **window)


def _strided(bottom: Top, channels: int, keeps_size: bool) -> Top:
    stride = 1 if keeps_size else 2
    return L.Convolution(
        bottom, num_output=channels, kernel_size=3, pad=1, stride=stride, **filled()
    )
