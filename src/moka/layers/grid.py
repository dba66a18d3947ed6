"""Maps from one grid of pixels to another that work on rows and columns apart."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

from moka.errors import NetError
from moka.types import Shape

Weights = Tensor  # (out, in): the share of each input in each output, along one axis


def require_images(*shapes: Shape) -> None:
    """Raises NetError if a blob is not (N, C, H, W) with pixels."""
    for x in shapes:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        if 0 in x[1:]:
            raise NetError(f"only the batch may be empty, got a bottom of shape {x}.")


def apply_grid(x: Tensor, rows: Weights, columns: Weights) -> Tensor:
    """y[i, j] = sum over a, b of rows[i, a] columns[j, b] x[a, b] for each image of x (N, C, H, W);
    rows (H', H), columns (W', W)."""
    return rows.to(x) @ x @ columns.to(x).t()


def pick_grid(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels x[rows[i], columns[j]] of each image of x (N, C, H, W); rows (H',), columns (W',)."""
    return x.index_select(2, rows.to(x.device)).index_select(3, columns.to(x.device))


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp_min(0)


def _cubic(distance: Tensor) -> Tensor:
    """The cubic convolution kernel with a = -1/2 (Keys, 1981)."""
    d = distance.abs()
    near = d * d * (1.5 * d - 2.5) + 1
    far = d * (d * (2.5 - 0.5 * d) - 4) + 2
    return torch.where(d <= 1, near, torch.where(d < 2, far, 0.0))


KERNELS = {"LINEAR": _triangle, "CUBIC": _cubic}


def nearest_pixels(size: int, out: int, first: Fraction | None = None) -> Tensor:
    """Indices (out,) of the pixels of an axis that is brought from `size` to `out` pixels: those
    whose centers are nearest to the new ones; of two as near, the second.

    Args:
        first: where the first new center lies, from the image's edge; None: at size / out / 2.
    """
    first = first or Fraction(size, 2 * out)
    places = torch.arange(out) * size * first.denominator + out * first.numerator
    return (places // (out * first.denominator)).clamp_max(size - 1)


@lru_cache(maxsize=256)
def centered_weights(
    size: int, out: int, kind: str, *, antialias: bool, first: Fraction | None = None
) -> Weights:
    """Weights of LINEAR or CUBIC interpolation between the centers of pixels.

    Weights beyond the image are left out, and the others add up to 1, or are all 0 where a narrow
    kernel reaches no pixel.

    Args:
        antialias: make the kernel size / out wide, so that every pixel of a shrinking axis counts.
        first: see `nearest_pixels`.
    """
    width = size / out if antialias else 1.0
    start = float(first or Fraction(size, 2 * out)) - 0.5
    at = torch.arange(out, dtype=torch.float64) * (size / out) + start
    weights = KERNELS[kind]((at[:, None] - torch.arange(size)) / width)
    total = weights.sum(1, keepdim=True)
    return weights / total.where(total != 0, 1.0)
