"""The layout in memory that the convolutions and above all the max pooling of a CPU prefer."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.net import Net


def channels_last(x: Tensor) -> Tensor:
    """The same images (N, C, H, W) with the channels of a pixel side by side in memory.

    With one channel both layouts are the same memory, and only the strides say which one is meant;
    PyTorch's own conversion would leave them as they are.
    """
    if x.dim() != 4 or x.device.type != "cpu":
        return x
    _, c, h, w = x.shape
    if c == 1 and x.is_contiguous():
        return x.as_strided(x.shape, (h * w, 1, w, 1))
    return x.contiguous(memory_format=torch.channels_last)


def lay_out_kernels(net: Net) -> None:
    """Keep convolution kernels channels-last too, so that they are not copied in each pass; those
    that are divided among processes stay row-major."""
    for blob in net.learnable:
        parameter = net.parameter_of(blob)
        shapes = {net.places[i].layer.blob_shapes[k] for i, k in blob.users}
        if parameter.dim() == 4 and len(shapes) == 1 and type(parameter.data) is Tensor:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
