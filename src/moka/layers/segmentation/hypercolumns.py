"""Hypercolumns: what all maps of a net say of single pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.grid import require_images
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.layers.sampling import bilinear
from moka.types import Shape


@layer(
    "RandCatConv",
    bottoms=(3, None),
    tops=2,
    fork="PixelNet",
    fixed_bottoms=(-1, -2),
)
class RandCatConv(Layer):
    """Rows of features of single pixels, from several maps: their hypercolumns, and their targets.

    With rand_selection num_output of the valid pixels of each image are drawn in each pass, in any
    phase; else all valid pixels are taken, in their order, and there must be (H - 2 pad_factor) (W
    - 2 pad_factor) of them. For pixel (i, j) a map whose pooling_factor is f is read, bilinear, at
    row (i - (f - 1) / 2) / f and column (j - (f - 1) / 2) / f, at least 0.

    Bottoms: maps (N, C_k, H_k, W_k), the first of which is as large as the image; valid pixels (N,
    1, H, W) or (1, 1, H, W) for all images, where 1 is valid; targets (N, T, H, W). The last two
    take no gradient. Tops: features (N K, sum of C_k), for K pixels of each image; targets (N K,
    T). Message: rand_cat_conv_param, with a pooling_factor for each map. Bansal et al., 2017
    (PixelNet).

    Errors: another number of pooling_factor; a pixel beyond the cells of a map; bottoms of other
    sizes; too few valid pixels, or without rand_selection another number of them.

    The fork reads the targets of images that are not square at wrong places.
    """

    rand_selection: bool = option(required=True)
    num_output: int | None = option(positive)
    pooling_factor: tuple[int, ...] = option(positive)
    pad_factor: int = option()

    @property
    def is_pure(self) -> bool:
        return super().is_pure and not self.rand_selection

    @property
    def can_be_recorded(self) -> bool:
        return False  # the number of valid pixels is looked at

    def setup(self, *bottoms: Shape) -> None:
        if self.rand_selection and self.num_output is None:
            raise NetError("num_output is missing: how many pixels of an image are drawn.")
        if len(self.pooling_factor) != len(bottoms) - 2:
            raise NetError(
                f"needs a pooling_factor for each of {len(bottoms) - 2} maps, got"
                f" {len(self.pooling_factor)}."
            )

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        require_images(*bottoms)
        (*maps, valid, targets), (n, _, height, width) = bottoms, bottoms[0]
        if valid not in ((n, 1, height, width), (1, 1, height, width)):
            raise NetError(f"valid pixels must be {(n, 1, height, width)}, got shape {valid}.")
        if (targets[0], *targets[2:]) != (n, height, width):
            raise NetError(f"targets must be {(n, 'T', height, width)}, got shape {targets}.")
        for x in maps:
            if x[0] != n:
                raise NetError(f"maps must be of {n} images, got shape {x}.")
        rows = n * self._pixels_of(height, width)
        return [(rows, sum(x[1] for x in maps)), (rows, targets[1])]

    def _pixels_of(self, height: int, width: int) -> int:
        """How many pixels of an image are taken."""
        if self.rand_selection:
            return self.num_output or 0
        return max(0, height - 2 * self.pad_factor) * max(0, width - 2 * self.pad_factor)

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        *maps, valid, targets = bottoms
        n, _, height, width = maps[0].shape
        mask = valid.detach().long().eq(1).flatten(1).expand(n, -1)
        pixel = self._chosen(mask, self._pixels_of(height, width))  # (N, K)
        image = torch.arange(n, device=pixel.device)[:, None]
        row, column = pixel // width, pixel % width
        features = [
            _sampled(x, _place(row, factor), _place(column, factor))
            for x, factor in zip(maps, self.pooling_factor, strict=True)
        ]
        return [torch.cat(features, 1), targets.detach()[image, :, row, column].flatten(0, 1)]

    def _chosen(self, mask: Tensor, count: int) -> Tensor:
        """The indices (N, K) of the pixels that are taken of a mask (N, H W)."""
        found = mask.sum(1)
        wrong = found < count if self.rand_selection else found != count
        if wrong.any():
            k = int(wrong.nonzero()[0])
            raise DataError(
                f"image {k} has {int(found[k])} valid pixels, and {count} are to be taken."
            )
        if not self.rand_selection:
            return mask.nonzero()[:, 1].view(len(mask), count)
        drawn = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, -1)
        return drawn.topk(count, 1).indices


def _place(pixel: Tensor, factor: int) -> Tensor:
    """Where a pixel of the image lies in a map, along one axis."""
    return (pixel - (factor - 1) / 2) / factor


def _sampled(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values (N K, C) of a map (N, C, H, W) at places (N, K); places before the first row
    or column have its values.

    Raises:
        DataError: a place beyond the map.
    """
    down, across = (
        _within(places, size) for places, size in ((rows, x.shape[2]), (columns, x.shape[3]))
    )
    values = bilinear(x, down[:, None], across[:, None], repeat_edge=True)
    return values[:, :, 0].mT.flatten(0, 1)


def _within(places: Tensor, size: int) -> Tensor:
    """Places along an axis of so many cells, none of them before the first cell."""
    held = places.clamp_min(0)
    if held.numel() and (last := int(held.max().ceil())) >= size:
        raise DataError(
            f"a pixel that is taken lies at {float(held.max()):g} of a map's axis of {size}, which"
            f" needs {last + 1}.",
            advice="Let no pixel near the border be valid, or pad the image.",
        )
    return held
