"""CRF-RNN: the mean field of a dense conditional random field, as a layer that learns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.options import Check, option, positive
from moka.layers.registry import layer
from moka.layers.segmentation.pixels import PixelKernel, places, places_and_colors
from moka.layers.shapes import refuse_empty_axes
from moka.schema import caffe_pb2
from moka.types import Shape

several = Check(lambda v: v > 1, "> 1")
ZERO = caffe_pb2.FillerParameter(type="constant")


@layer(
    "MultiStageMeanfield",
    bottoms=3,
    tops=1,
    fork="CRF-RNN",
    fixed_bottoms=(2,),
    bfloat16="float32",
)
class MultiStageMeanfield(Layer):
    """Refine the class scores of an image's pixels by a fully connected conditional random field
    whose weights are learned (CRF-RNN).

    Mean field: num_iterations times Q = unary - W_c (W_s S + W_b B), where S and B are averages of
    softmax(Q) over all pixels, a pixel's own among them, with weights exp(-|f_i - f_j|^2 / 2). The
    features f for S are column and row divided by theta_gamma; those for B are column and row
    divided by theta_alpha, and the three colors divided by theta_beta. The weights are those of a
    permutohedral lattice, as in the fork.

    Bottoms: unary scores (N, C, H, W); the first Q, most often the same scores; images (N, 3, H,
    W), which take no gradient. Top: the last Q (N, C, H, W), scores that no softmax has normalized.
    Blobs, (1, 1, C, C) each: `spatial` W_s and `bilateral` W_b, which begin as diagonals;
    `compatibility` W_c, which begins as -1 on the diagonal (POTTS). Message:
    multi_stage_meanfield_param. spatial_filter_weight is the number on the diagonal of W_s, or
    spatial_filter_weights_str lists one for each class; bilateral likewise. `threshold` and
    `force_cpu` change nothing. Zheng et al., 2015.

    Errors: num_iterations below 2; a theta that is missing; blobs of other shapes; a list of
    weights with another number of them; options of relatives with other formulas.

    The first version of the fork has the diagonals in files spatial.par and bilateral.par and does
    not read spatial_filter_weight and bilateral_filter_weight.
    """

    num_iterations: int = option(several)
    compatibility_mode: str = option()
    threshold: float | None = option()
    theta_alpha: float = option(positive, required=True)
    theta_beta: float = option(positive, required=True)
    theta_gamma: float = option(positive, required=True)
    spatial_filter_weight: float = option()
    bilateral_filter_weight: float = option()
    spatial_filter_weights_str: str | None = option()
    bilateral_filter_weights_str: str | None = option()
    force_cpu: bool = option()

    def top_shapes(self, unary: Shape, first: Shape, image: Shape) -> list[Shape]:
        if len(unary) != 4:
            raise NetError(f"takes scores (N, C, H, W), got a bottom of shape {unary}.")
        refuse_empty_axes(unary, first=1)
        if first != unary:
            raise NetError(f"both scores must have one shape, got {unary} and {first}.")
        if image != (unary[0], 3, *unary[2:]):
            raise NetError(f"the images must be {(unary[0], 3, *unary[2:])}, got shape {image}.")
        return [unary]

    def blob_specs(self, unary: Shape, *_: Shape) -> Iterator[BlobSpec]:
        for name in ("spatial", "bilateral", "compatibility"):
            yield BlobSpec((1, 1, unary[1], unary[1]), ZERO, name)

    def make_parameters(self, *shapes: Shape) -> dict[str, nn.Parameter]:
        made, classes = super().make_parameters(*shapes), shapes[0][1]
        begin = {
            "spatial": self._diagonal("spatial", classes),
            "bilateral": self._diagonal("bilateral", classes),
            "compatibility": [-1.0],
        }
        for name, parameter in made.items():
            numbers = parameter.new_tensor(begin[name])
            parameter.data[0, 0].diagonal().copy_(numbers.expand(classes))
        return made

    def _diagonal(self, kind: str, classes: int) -> list[float]:
        """What the matrix of a kind of kernel has on its diagonal: one number, or one for each
        class."""
        one, each = f"{kind}_filter_weight", f"{kind}_filter_weights_str"
        text = getattr(self, each)
        if text is None:
            return [getattr(self, one)]
        if self.config.multi_stage_meanfield_param.HasField(one):
            raise NetError(f"give either {one} or {each}, not both.")
        try:
            numbers = [float(word) for word in text.split()]
        except ValueError:
            raise NetError(f"{each} must be numbers with spaces between, got {text!r}.") from None
        if len(numbers) != classes:
            raise NetError(
                f"{each} must list a number for each of {classes} classes, got {len(numbers)}."
            )
        return numbers

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        n, classes, h, w = tops[0]
        return self.num_iterations * 3 * classes**2 * n * h * w

    @property
    def can_be_recorded(self) -> bool:
        return False  # a lattice has as many corners as the image needs

    def forward(self, unary: Tensor, first: Tensor, image: Tensor) -> Tensor:
        if not len(unary):
            return unary.clone()
        h, w = unary.shape[2:]
        spatial = PixelKernel(places(h, w, unary) / self.theta_gamma)
        each = zip(unary, first, image.detach(), strict=True)
        return torch.stack([self._refined(u, q, spatial, self._bilateral(i)) for u, q, i in each])

    def _bilateral(self, image: Tensor) -> PixelKernel:
        return PixelKernel(places_and_colors(image, self.theta_alpha, self.theta_beta))

    def _refined(
        self, unary: Tensor, first: Tensor, spatial: PixelKernel, bilateral: PixelKernel
    ) -> Tensor:
        """The top (C, H, W) of one image."""
        near, alike, compatibility = (blob[0, 0].T for blob in self.blobs)
        scores, q = unary.flatten(1).T, first.flatten(1).T
        for _ in range(self.num_iterations):
            p = q.softmax(1)
            message = spatial.average(p) @ near + bilateral.average(p) @ alike
            q = scores - message @ compatibility
        return q.T.reshape(unary.shape)
