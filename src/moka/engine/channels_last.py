"""The layout in memory that the convolutions and above all the max pooling of a CPU prefer, and the
matrix units of a GPU."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.net import Net


def channels_last(x: Tensor) -> Tensor:
    """On a CPU the same images `by_pixel`; on other devices and of other shapes the tensor."""
    return by_pixel(x) if x.device.type == "cpu" else x


def by_pixel(x: Tensor) -> Tensor:
    """The same images (N, C, H, W) with the channels of a pixel side by side in memory.

    With one channel both layouts are the same memory, and only the strides say which one is meant;
    PyTorch's own conversion would leave them as they are.
    """
    if x.dim() != 4:
        return x
    _, c, h, w = x.shape
    if c == 1 and x.is_contiguous():
        return x.as_strided(x.shape, (h * w, 1, w, 1))
    return x.contiguous(memory_format=torch.channels_last)


def as_they_are(x: Tensor) -> Tensor:
    """The same images in the layout that they have."""
    return x


def prefers_channels_last(device: torch.device, half: torch.dtype | None) -> bool:
    """Whether nets run faster channels-last: on a CPU, and on a GPU in half precision, whose matrix
    units want the channels of a pixel together (else cuDNN converts each array to and fro)."""
    return device.type == "cpu" or half is not None


def lay_out_kernels(net: Net) -> None:
    """Keep convolution kernels channels-last too, so that they are not copied in each pass; those
    that are divided among processes stay row-major."""
    for blob in net.learnable:
        parameter = net.parameter_of(blob)
        shapes = {net.places[i].layer.blob_shapes[k] for i, k in blob.users}
        if parameter.dim() == 4 and len(shapes) == 1 and type(parameter.data) is Tensor:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
