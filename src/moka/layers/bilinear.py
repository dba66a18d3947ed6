"""Bilinear pooling: products of all pairs of channels, summed over an image."""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.c_random import rand
from moka.layers.grid import require_images
from moka.layers.options import option, positive
from moka.layers.registry import layer
from moka.types import Shape

SEED = 1  # of the hashes, so that a model means the same in each net


def check_pair(a: Shape, b: Shape) -> None:
    """Raises NetError unless both are images that differ in their channels alone."""
    require_images(a, b)
    if (a[0], *a[2:]) != (b[0], *b[2:]):
        raise NetError(f"both bottoms must have one number and size of images, got {a} and {b}.")


def channel_products(a: Tensor, b: Tensor) -> Tensor:
    """The products (N, C, D) of all pairs of channels of a (N, C, H, W) and b (N, D, H, W), summed
    over the positions."""
    return a.flatten(2) @ b.flatten(2).mT


@layer("Bilinear", bottoms=2, tops=1, fork="compact bilinear pooling")
class Bilinear(Layer):
    """The products of all pairs of channels, summed over the image: y[c D + d] = sum over h, w of
    a[c, h, w] b[d, h, w].

    Bottoms: a (N, C, H, W), b (N, D, H, W). Top: (N, C D, 1, 1). Both take gradients. No message.
    Lin et al., 2015.

    Errors: images of different sizes or numbers.
    """

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        check_pair(a, b)
        return [(a[0], a[1] * b[1], 1, 1)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return channel_products(a, b).flatten(1)[..., None, None]


@layer("CompactBilinear", bottoms=2, tops=1, fork="compact bilinear pooling")
class CompactBilinear(Layer):
    """Bilinear pooling into n = num_output numbers (Tensor Sketch): y[k] = n times the sum of
    s[c] t[d] a[c, h, w] b[d, h, w] over the pairs of channels with g[c] + h[d] = k modulo n, and
    over the positions of the image; with sum_pool: false at each position.

    The hashes g and h, from 0 to n - 1, and the signs s and t are drawn once, as in the fork: C
    numbers of the C library's `rand()` after `srand(1)` modulo n are g, the next C modulo 2 are s
    (0 means -1), then the same for h and t.

    Bottoms: a (N, C, H, W), b (N, D, H, W). Top: (N, n, 1, 1), or (N, n, H, W). Both take
    gradients. Message: compact_bilinear_param. Gao et al., 2016; Pham and Pagh, 2013.

    Errors: no num_output; images of different sizes or numbers.

    The factor n comes from the fork's inverse Fourier transform. The fork refuses an odd
    num_output on a CPU.
    """

    num_output: int = option(positive, required=True)
    sum_pool: bool = option()

    def setup(self, a: Shape, b: Shape) -> None:
        check_pair(a, b)
        numbers = rand(SEED)
        self.hashes: list[Tensor] = []
        self.signs: list[Tensor] = []
        for channels in (a[1], b[1]):
            places, signs = (
                torch.tensor(list(islice(numbers, channels)), device="cpu") for _ in range(2)
            )
            self.hashes.append(places % self.num_output)
            self.signs.append(signs % 2 * 2 - 1)

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        check_pair(a, b)
        size = (1, 1) if self.sum_pool else a[2:]
        return [(a[0], self.num_output, *size)]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self._pooled(a, b) if self.sum_pool else self._at_each_position(a, b)

    def _pooled(self, a: Tensor, b: Tensor) -> Tensor:
        """The products of all pairs, each added to where its hashes say."""
        index, sign = self.pairs()
        products = channel_products(a, b).flatten(1) * sign.to(a)
        sums = a.new_zeros(len(a), self.num_output).index_add(1, index.to(a.device), products)
        return self.num_output * sums[..., None, None]

    def pairs(self) -> tuple[Tensor, Tensor]:
        """For each pair of channels (C D,), where its product is added, and its sign."""
        (g, h), (s, t) = self.hashes, self.signs
        return ((g[:, None] + h) % self.num_output).flatten(), (s[:, None] * t).flatten()

    def _at_each_position(self, a: Tensor, b: Tensor) -> Tensor:
        """The circular convolution of both sketches, by Fourier transforms."""
        n, waves = self.num_output, []
        for x, place, sign in zip((a, b), self.hashes, self.signs, strict=True):
            signed = x * sign.to(x)[:, None, None]
            sketch = x.new_zeros(len(x), n, *x.shape[2:])
            waves.append(torch.fft.rfft(sketch.index_add(1, place.to(x.device), signed), dim=1))
        return n * torch.fft.irfft(waves[0] * waves[1], n, dim=1)


@layer("MatrixMultiplication", bottoms=2, tops=1, bfloat16="multiplies", fork="CF-Caffe")
class MatrixMultiplication(Layer):
    """The product of two matrices, or of two batches of matrices.

    Bottoms: a (M, K) or (B, M, K); b (K, L) or (B, K, L). Top: (M, L), or (B, M, L) if either is a
    batch; the matrix that is none counts for each item. Both take gradients. No message.

    Errors: bottoms of other axes; sizes that do not fit.
    """

    def top_shapes(self, a: Shape, b: Shape) -> list[Shape]:
        for x in (a, b):
            if len(x) not in (2, 3):
                raise NetError(f"multiplies (M, K) or (B, M, K), got a bottom of shape {x}.")
        if a[-1] != b[-2] or (len(a) == len(b) == 3 and a[0] != b[0]):
            raise NetError(f"matrices of shapes {a} and {b} cannot be multiplied.")
        batch = a[:-2] or b[:-2]
        return [(*batch, a[-2], b[-1])]

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b
