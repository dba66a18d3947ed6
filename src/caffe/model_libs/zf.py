"""The net of Zeiler and Fergus, 2014 ("Visualizing and understanding convolutional networks")."""

from __future__ import annotations

from collections.abc import Iterable

from caffe import layers as L
from caffe import params as P
from caffe.model_libs.convolution import Options, filled
from caffe.model_libs.numbered import conv_relu, fc6_and_fc7, freeze
from caffe.net_spec import NetSpec

CONVOLUTIONS: tuple[Options, ...] = (
    dict(num_output=96, kernel_size=7, pad=3, stride=2),
    dict(num_output=256, kernel_size=5, pad=2, stride=2),
    dict(num_output=384, kernel_size=3, pad=1),
    dict(num_output=384, kernel_size=3, pad=1),
    dict(num_output=256, kernel_size=3, pad=1),
)
FC6: dict[tuple[bool, bool], Options] = {  # as a convolution, by (dilated, reduced)
    (True, True): dict(kernel_size=3, pad=5, dilation=5),
    (True, False): dict(kernel_size=6, pad=5, dilation=2),
    (False, True): dict(kernel_size=3, pad=2, dilation=2),
    (False, False): dict(kernel_size=6, pad=2),
}
LRN: Options = dict(
    local_size=3,
    alpha=0.00005,
    beta=0.75,
    norm_region=P.LRN.WITHIN_CHANNEL,
    engine=P.LRN.CAFFE,
)


def ZFNetBody(
    net: NetSpec,
    from_layer: str,
    need_fc: bool = True,
    fully_conv: bool = False,
    reduced: bool = False,
    dilated: bool = False,
    dropout: bool = True,
    need_fc8: bool = False,
    freeze_layers: Iterable[str] = (),
) -> NetSpec:
    """Add the net of Zeiler and Fergus: conv5 (N, 256, H / 16, W / 16), fc6, fc7, fc8.

    Args:
        need_fc: add pool5, fc6 and fc7.
        fully_conv: fc6 and fc7 are convolutions of 4096 channels; else InnerProduct layers.
        reduced: as convolutions they have 1024 channels, and fc6 a kernel of 3, not 6.
        dilated: pool5 keeps the size of its map, and fc6 is dilated.
        dropout: add Dropout after fc6 and fc7.
        need_fc8: add fc8, scores of 1000 classes, and prob.
        freeze_layers: convolutions that are not trained; names that the net lacks are skipped.
    """
    top = net[from_layer]
    for k, options in enumerate(CONVOLUTIONS, 1):
        top = conv_relu(net, top, str(k), **options)
        if k <= 2:
            net[f"norm{k}"] = top = L.LRN(top, **LRN)
            net[f"pool{k}"] = top = L.Pooling(
                top, pool=P.Pooling.MAX, pad=1, kernel_size=3, stride=2
            )
    if need_fc:
        stride = 1 if dilated else 2
        net.pool5 = L.Pooling(top, pool=P.Pooling.MAX, pad=1, kernel_size=3, stride=stride)
        fc6 = FC6[bool(dilated), bool(reduced)] if fully_conv else None
        top = fc6_and_fc7(net, net.pool5, fc6, reduced, dropout)
    if need_fc8:
        if fully_conv:
            net.fc8 = L.Convolution(top, num_output=1000, kernel_size=1, **filled())
        else:
            net.fc8 = L.InnerProduct(top, num_output=1000)
        net.prob = L.Softmax(net.fc8)
    freeze(net, freeze_layers)
    return net
