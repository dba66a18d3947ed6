"""Dense conditional random fields: labels that agree with the image's edges."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.options import not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.segmentation.pixels import PixelKernel, places, places_and_colors
from moka.layers.shapes import as_rows, refuse_empty_axes
from moka.types import Shape


def image_sizes(sizes: Tensor, height: int, width: int) -> list[tuple[int, int]]:
    """The height and width of each image, from a blob (N, 2, ...), without its padding.

    Raises:
        DataError: an image larger than height x width in one direction only, or without pixels.
    """
    found = []
    for n, (h, w) in enumerate(as_rows(sizes.detach())[:, :2].long().tolist()):
        if h >= height and w >= width:
            h, w = height, width
        if not (0 < h <= height and 0 < w <= width):
            raise DataError(
                f"image {n} is {h} x {w} pixels, which does not lie in {height} x {width}."
            )
        found.append((h, w))
    return found


def check_sizes(x: Shape, sizes: Shape) -> None:
    """Raises NetError unless a blob has a height and a width for each image of x (N, C, H, W)."""
    if sizes[:1] != x[:1] or prod(sizes[1:]) < 2:
        raise NetError(f"the second bottom must give height and width of {x[0]} images, (N, 2), got"
                       f" shape {sizes}.")  # fmt: skip


@layer(
    "DenseCRF",
    bottoms=(2, 3),
    tops=1,
    message="dense_crf_param",
    fork="PSPNet and DeepLab",
    differentiable=False,
)
class DenseCRF(Layer):
    """Refine the class scores of an image's pixels by a fully connected conditional random field.

    Mean field: Q = softmax(scores) over the classes; then max_iter times Q = softmax(scores + sum
    over kernels of w K Q), where K averages over all pixels, a pixel's own among them, with weights
    exp(-|f_i - f_j|^2 / 2). The features f of a Gaussian kernel are column and row divided by
    pos_xy_std; those of a bilateral kernel are column and row divided by bi_xy_std, and the three
    colors divided by bi_rgb_std. The weights are those of a permutohedral lattice, as in the fork.

    Bottoms: scores (N, C, H, W); height and width of each image (N, 2): pixels beyond them are
    padding; images (N, 3, H, W), without which there are no bilateral kernels. Top: (N, C, H, W),
    probabilities, or with output_probability: false their logarithms, at least ln(1.2e-38); padding
    is 0. No gradient. Message: dense_crf_param; pos_w, pos_xy_std and bi_w, bi_xy_std, bi_rgb_std
    list one number for each kernel. Krahenbuhl and Koltun, 2011. The fork takes the colors of the
    batch's first image for all of them.

    Errors: lists of different lengths; images without bi_w; blobs of other shapes; a size beyond H
    x W.
    """

    max_iter: int = option(not_negative)
    pos_xy_std: tuple[float, ...] = option(positive)
    pos_w: tuple[float, ...] = option()
    bi_xy_std: tuple[float, ...] = option(positive)
    bi_rgb_std: tuple[float, ...] = option(positive)
    bi_w: tuple[float, ...] = option()
    output_probability: bool = option()

    def setup(self, x: Shape, sizes: Shape, image: Shape | None = None) -> None:
        if len(self.pos_w) != len(self.pos_xy_std):
            raise NetError("pos_w and pos_xy_std should have the same size.")
        if not len(self.bi_w) == len(self.bi_xy_std) == len(self.bi_rgb_std):
            raise NetError("bi_w, bi_xy_std and bi_rgb_std should have the same size.")
        if image is not None and not self.bi_w:
            raise NetError("has an image, but no bilateral kernel: give bi_w.")

    def top_shapes(self, x: Shape, sizes: Shape, image: Shape | None = None) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes scores (N, C, H, W), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        check_sizes(x, sizes)
        if image is not None and image != (x[0], 3, *x[2:]):
            raise NetError(f"the images must be {(x[0], 3, *x[2:])}, got shape {image}.")
        return [x]

    @property
    def can_be_recorded(self) -> bool:
        return False  # a lattice has as many corners as the image needs

    def forward(self, x: Tensor, sizes: Tensor, image: Tensor | None = None) -> Tensor:
        top = torch.zeros_like(x)
        with torch.no_grad():
            for n, (h, w) in enumerate(image_sizes(sizes, *x.shape[2:])):
                colors = None if image is None else image[n, :, :h, :w]
                top[n, :, :h, :w] = self._refined(x[n, :, :h, :w], colors)
        return top

    def _refined(self, scores: Tensor, colors: Tensor | None) -> Tensor:
        """The top (C, h, w) of one image."""
        classes, h, w = scores.shape
        unary = scores.reshape(classes, h * w).T
        kernels = self._kernels(h, w, colors, scores)
        q = unary.softmax(1)
        for _ in range(self.max_iter):
            q = sum((weight * kernel.average(q) for weight, kernel in kernels), unary).softmax(1)
        if not self.output_probability:
            q = q.clamp_min(torch.finfo(torch.float32).tiny).log()
        return q.T.reshape(classes, h, w)

    def _kernels(
        self, h: int, w: int, colors: Tensor | None, like: Tensor
    ) -> list[tuple[float, PixelKernel]]:
        """The kernels and their weights, for an image of h x w pixels."""
        gaussian = zip(self.pos_w, self.pos_xy_std, strict=True)
        features = [(weight, places(h, w, like) / near) for weight, near in gaussian]
        if colors is not None:
            bilateral = zip(self.bi_w, self.bi_xy_std, self.bi_rgb_std, strict=True)
            features += [
                (weight, places_and_colors(colors, near, alike))
                for weight, near, alike in bilateral
            ]
        return [(weight, PixelKernel(points)) for weight, points in features]
