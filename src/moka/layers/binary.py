"""Layers that multiply by binary weights, and that make activations of few values."""

from __future__ import annotations

from itertools import accumulate, pairwise

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.conv import Convolution, convolution_layer
from moka.layers.fork_activation import STYLE
from moka.layers.gradient import with_gradient_of
from moka.layers.linear import InnerProduct
from moka.layers.options import option, positive
from moka.layers.registry import DrawStyle, layer
from moka.types import Shape

FORWARD = ("hwgq", "sign", "hard_tanh", "relu")
BACKWARD = ("relu", "hard_tanh")


def signs(x: Tensor) -> Tensor:
    """1 where x is at least 0, else -1."""
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def binary(blobs: list[Tensor], *, scaled: bool) -> list[Tensor]:
    """Weight and bias with the signs of the weight (num_output, ...) in its place, times each
    output's mean absolute weight if they are `scaled`. The gradient passes by."""
    weight, *bias = blobs
    values = weight.detach()
    codes = signs(values)
    if scaled:
        codes = codes * values.abs().mean(tuple(range(1, values.dim())), keepdim=True)
    return [with_gradient_of(codes, weight), *bias]


@convolution_layer("BinaryConvolution", bfloat16="float32", fork="HWGQ")
class BinaryConvolution(Convolution):
    """A Convolution by the signs of its weights: 1 for those of at least 0, -1 for the others.

    With use_alpha the signs are multiplied by the mean absolute weight of their output. The
    gradient of the signs is that of the weights, which keep all their bits. With use_binarization:
    false it is a Convolution.

    Bottoms, tops, blobs and errors: those of Convolution. Messages: convolution_param for the
    window, binary_convolution_param for the signs. Cai et al., 2017 (HWGQ-Net).
    """

    use_alpha: bool = option(of="binary_convolution_param")
    use_binarization: bool = option(of="binary_convolution_param")

    def multiplied(self) -> list[Tensor]:
        return binary(self.blobs, scaled=self.use_alpha) if self.use_binarization else self.blobs


@layer(
    "BinaryInnerProduct",
    bottoms=1,
    tops=1,
    message="inner_product_param",
    bfloat16="float32",
    fork="HWGQ",
    drawn=DrawStyle("#CC33FF", edge="{num_output}", rates=True),
)
class BinaryInnerProduct(InnerProduct):
    """An InnerProduct by the signs of its weights, see BinaryConvolution.

    Bottom, top, blobs and errors: those of InnerProduct. Messages: inner_product_param, and
    binary_inner_product_param for the signs. Cai et al., 2017 (HWGQ-Net).

    Errors: transpose, relu or normalize, which HWGQ does not have.
    """

    use_alpha: bool = option(of="binary_inner_product_param")
    use_binarization: bool = option(of="binary_inner_product_param")

    def setup(self, x: Shape, *given: Shape) -> None:
        super().setup(x, *given)
        refuse_options_of_others(self)

    def multiplied(self, *given: Tensor) -> list[Tensor]:
        return binary(self.blobs, scaled=self.use_alpha) if self.use_binarization else self.blobs


def refuse_options_of_others(layer: InnerProduct) -> None:
    """Raises NetError if a kind of InnerProduct has an option that it does not know."""
    for name in ("transpose", "relu", "normalize"):
        if getattr(layer, name):
            raise NetError(f"{name}: true is an option that this layer does not have.")


@layer("Quant", bottoms=1, tops=1, coordinates="same", fork="HWGQ", drawn=STYLE)
class Quant(Layer):
    """Activations of few values, element by element.

    forward_func hwgq (default): -negative_slope for x <= 0, else the first of the `centers` for
    which x lies below the middle between it and the next one, or else the last. sign: 1 for x >= 0,
    else -1. hard_tanh: min(max(x, -1), 1). relu: max(x, 0) + negative_slope min(x, 0).

    The gradient is that of another function. backward_func relu (default): 1 for x > 0, else
    negative_slope, and 0 above clip_thr. hard_tanh: 1 from -clip_thr to clip_thr, else 0. A
    clip_thr of 0 or less is no limit.

    Bottom and top: any shape. Message: quant_param; `thrs` has no effect, as in the fork. Cai et
    al., 2017 (HWGQ-Net).

    Errors: another function; no centers, or one that is not above 0.
    """

    forward_func: str = option()
    backward_func: str = option()
    clip_thr: float = option()
    negative_slope: float = option()
    thrs: tuple[float, ...] = option()
    centers: tuple[float, ...] = option(positive)
    values: Tensor  # the centers
    middles: Tensor  # between each two of them, see `steps`

    def setup(self, x: Shape) -> None:
        for name, known in (("forward_func", FORWARD), ("backward_func", BACKWARD)):
            if getattr(self, name) not in known:
                raise NetError(
                    f'{name} must be one of {", ".join(known)}, got "{getattr(self, name)}".'
                )
        if self.forward_func == "hwgq" and not self.centers:
            raise NetError("forward_func hwgq needs centers, the values that it gives.")
        values, middles = torch.tensor(self.centers).double(), torch.tensor(self.steps()).double()
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("middles", middles, persistent=False)

    def steps(self) -> list[float]:
        """The values of x above which the next center is taken."""
        middles = (0.5 * (low + high) for low, high in pairwise(self.centers))
        return list(accumulate(middles, max))  # the first center that fits is taken

    def forward(self, x: Tensor) -> Tensor:
        return with_gradient_of(self._values(x.detach()), x * self._slopes(x.detach()))

    def _values(self, x: Tensor) -> Tensor:
        if self.forward_func == "sign":
            return signs(x)
        if self.forward_func == "hard_tanh":
            return x.clamp(-1, 1)
        if self.forward_func == "relu":
            return x.clamp_min(0) + self.negative_slope * x.clamp_max(0)
        index = torch.bucketize(x.contiguous(), self.middles.to(x))  # else it warns of a copy
        return torch.where(x <= 0, -self.negative_slope, self.values.to(x)[index])

    def _slopes(self, x: Tensor) -> Tensor:
        limit = self.clip_thr if self.clip_thr > 0 else torch.finfo(x.dtype).max
        if self.backward_func == "hard_tanh":
            return (x.abs() <= limit).to(x.dtype)
        return torch.where(x > 0, 1.0, self.negative_slope).to(x.dtype) * (x <= limit)
