"""What VGG and ZF share: layers that their numbers name, conv1, relu1 and so on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from caffe import layers as L
from caffe.model_libs.convolution import FROZEN, Options, filled
from caffe.net_spec import NetSpec, Top


def conv_relu(net: NetSpec, bottom: Top, number: str, **options: Any) -> Top:
    """Add conv<number> and relu<number>."""
    net[f"conv{number}"] = L.Convolution(bottom, **options, **filled())
    net[f"relu{number}"] = L.ReLU(net[f"conv{number}"], in_place=True)
    return net[f"relu{number}"]


def fc6_and_fc7(net: NetSpec, top: Top, fc6: Options | None, reduced: bool, dropout: bool) -> Top:
    """Add fc6 and fc7 on `top`: InnerProduct layers of 4096 numbers, or convolutions of 4096
    channels (1024 if `reduced`) if `fc6`, the window of the first, is given."""
    for k, window in ((6, fc6), (7, dict(kernel_size=1))):
        if fc6 is None or window is None:
            net[f"fc{k}"] = L.InnerProduct(top, num_output=4096)
        else:
            channels = 1024 if reduced else 4096
            net[f"fc{k}"] = L.Convolution(top, num_output=channels, **window, **filled())
        net[f"relu{k}"] = top = L.ReLU(net[f"fc{k}"], in_place=True)
        if dropout:
            net[f"drop{k}"] = top = L.Dropout(top, dropout_ratio=0.5, in_place=True)
    return top


def freeze(net: NetSpec, names: Iterable[str]) -> None:
    """Leave layers untrained; names that the net lacks are skipped."""
    for name in names:
        if name in net.tops:
            net.update(name, {**filled(), "param": [FROZEN] * 2})
