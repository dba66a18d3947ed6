"""Kernels between the pixels of an image, which dense conditional random fields average by."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.layers.segmentation.lattice import Lattice

LEAST_NORM = 1e-20  # added to the sum of a kernel's weights before the division


class PixelKernel:
    """Averages over all pixels, each pixel's own value among them, with weights that fall about as
    exp(-distance^2 / 2).

    Args:
        features: of each pixel (H W, d), in units of the kernel's standard deviation.
    """

    def __init__(self, features: Tensor) -> None:
        self.lattice = Lattice(features)
        self.norm = self.lattice.filter(features.new_ones(len(features), 1)) + LEAST_NORM

    def average(self, values: Tensor) -> Tensor:
        """The averages (H W, K) at each pixel of values (H W, K)."""
        return self.lattice.filter(values) / self.norm


def places(height: int, width: int, like: Tensor) -> Tensor:
    """Column and row of each pixel, (H W, 2)."""
    rows, columns = torch.meshgrid(
        torch.arange(height, device=like.device),
        torch.arange(width, device=like.device),
        indexing="ij",
    )
    return torch.stack([columns, rows], -1).reshape(height * width, 2).to(like)


def places_and_colors(image: Tensor, near: float, alike: float) -> Tensor:
    """Column and row divided by `near`, and colors divided by `alike`, of each pixel of an image
    (3, H, W); (H W, 5)."""
    _, h, w = image.shape
    return torch.cat([places(h, w, image) / near, image.reshape(3, h * w).T / alike], 1)
