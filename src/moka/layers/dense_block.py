"""A whole block of densely connected convolutions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.batch_statistics import Statistics, batch_norm, normalize_by_batch
from moka.layers.options import Check, not_negative, option, positive
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.schema import caffe_pb2
from moka.types import Shape

EPS = 1e-5
MOST_STEPS = 4096
KINDS = 5  # of blobs for a convolution: filter, scale, bias, mean, variance
BOTTLENECK = 4  # its channels, in growthRate
ZERO, ONE = caffe_pb2.FillerParameter(value=0), caffe_pb2.FillerParameter(value=1)


def _state(config: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    """Means, variances, and what they are divided by."""
    param = config.denseblock_param
    kinds = 2 * KINDS if param.use_BC else KINDS
    steps = min(param.numTransition, MOST_STEPS)
    of_kinds = [k for k in range(kinds) if k % KINDS >= 3]
    return (*(k * steps + i for k in of_kinds for i in range(steps)), kinds * steps)


class Convolving(NamedTuple):
    """The blobs of one convolution and of the normalization before it.

    The filter is (M, C, h, w); the others have C values.
    """

    filter: Tensor
    scale: Tensor
    bias: Tensor
    mean: Tensor
    variance: Tensor


@layer("DenseBlock", bottoms=1, tops=1, coordinates="same", state_blobs=_state, fork="DenseBlock")
class DenseBlock(Layer):
    """numTransition steps, each of which adds growthRate channels to its input: x = [x, f(x)] with
    f = convolution 3 x 3 of ReLU of the normalized x.

    With `use_BC: true` a bottleneck comes before: normalization, ReLU and a convolution 1 x 1 to
    4 growthRate channels. In training a normalization takes the batch's mean and variance, and
    sums them up: sum = moving_average_fraction * sum + new; in testing it takes the sums divided by
    that of as many ones. Its epsilon is 1e-5. With `use_dropout` what a step adds goes through
    Dropout with the ratio `dropout_amount`.

    Bottom: (N, C, H, W). Top: (N, C + numTransition * growthRate, H, W). Blobs, of each kind one
    for each step i with C_i = C + i * growthRate channels: filters (growthRate, C_i, 3, 3); scales,
    biases, means and variances (1, C_i, 1, 1), the last two not trained; with use_BC filters are
    (growthRate, 4 growthRate, 3, 3), and the same kinds follow for the bottleneck: filters
    (4 growthRate, C_i, 1, 1), and the others (1, 4 growthRate, 1, 1), which come before the 3 x 3
    convolution; at the end the sum of ones (1,). Message: denseblock_param; `gpuIdx`,
    `workspace_MB` and `BC_ultra_space_efficient` have no effect. Huang et al., 2017 (DenseNet).

    Errors: an initChannel other than C; a window other than 3 x 3 with stride and pad 1.
    """

    numTransition: int = option(Check(lambda n: 0 < n <= MOST_STEPS, f"1 to {MOST_STEPS}"))  # noqa: N815
    initChannel: int | None = option(unset_is_none=True)  # noqa: N815
    growthRate: int = option(positive)  # noqa: N815
    pad_h: int = option()
    pad_w: int = option()
    conv_verticalStride: int = option()  # noqa: N815
    conv_horizentalStride: int = option()  # noqa: N815
    filter_H: int = option()  # noqa: N815
    filter_W: int = option()  # noqa: N815
    Filter_Filler: caffe_pb2.FillerParameter = option()
    BN_Scaler_Filler: caffe_pb2.FillerParameter = option()
    BN_Bias_Filler: caffe_pb2.FillerParameter = option()
    gpuIdx: int = option()  # noqa: N815
    use_dropout: bool = option()
    dropout_amount: float = option(not_negative)
    use_BC: bool = option()  # noqa: N815
    BC_ultra_space_efficient: bool = option()
    workspace_MB: int = option()  # noqa: N815
    moving_average_fraction: float = option()

    def setup(self, x: Shape) -> None:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        self.channels = x[1]
        if self.initChannel not in (None, self.channels):
            raise NetError(
                f"initChannel must be the {self.channels} channels of the bottom, got"
                f" {self.initChannel}."
            )
        window = (self.filter_H, self.filter_W, self.conv_verticalStride)
        if (*window, self.conv_horizentalStride, self.pad_h, self.pad_w) != (3, 3, 1, 1, 1, 1):
            raise NetError("its window is 3 x 3 with stride 1 and pad 1, and no other.")

    def top_shapes(self, x: Shape) -> list[Shape]:
        if x[1:2] != (self.channels,) or len(x) != 4:
            raise NetError(f"was made for {self.channels} channels, got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        return [(x[0], self.channels + self.numTransition * self.growthRate, *x[2:])]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        steps = range(self.numTransition)
        into = [self.channels + i * self.growthRate for i in steps]
        narrow = [BOTTLENECK * self.growthRate] * self.numTransition
        if not self.use_BC:
            yield from self._specs("", self.growthRate, into, into, 3)
        else:  # the normalization of a block of blobs comes before the first convolution
            yield from self._specs("", self.growthRate, narrow, into, 3)
            yield from self._specs("bottleneck_", narrow[0], into, narrow, 1)
        yield BlobSpec((1,), ZERO, "ones")

    def _specs(
        self, prefix: str, out: int, into: list[int], normalized: list[int], side: int
    ) -> Iterator[BlobSpec]:
        for i, channels in enumerate(into):
            yield BlobSpec((out, channels, side, side), self.Filter_Filler, f"{prefix}filter{i}")
        fillers = {
            "scale": self.BN_Scaler_Filler,
            "bias": self.BN_Bias_Filler,
            "mean": ZERO,
            "variance": ONE,
        }
        for name, filler in fillers.items():
            for i, channels in enumerate(normalized):
                yield BlobSpec((1, channels, 1, 1), filler, f"{prefix}{name}{i}")

    def multiply_adds(self, bottoms: Iterable[Shape], tops: Iterable[Shape]) -> int:
        filters = sum(w.numel() for w in self.weights_unseen() if w.dim() == 4 and len(w) > 1)
        return filters * sum(n * h * w for n, _, h, w in tops)

    @property
    def is_pure(self) -> bool:
        return not self.training

    def forward(self, x: Tensor) -> Tensor:
        y, found = self._pass(x)
        if found and x.numel():
            self._add_to_the_sums(found)
        return y

    def again(self, x: Tensor) -> Tensor:
        return self._pass(x)[0]

    def convolutions(self) -> Iterator[list[Convolving]]:
        """The convolutions of each step, in running order."""
        blobs, steps = self.blobs, self.numTransition
        for i in range(steps):
            own = blobs[i : KINDS * steps : steps]
            if not self.use_BC:
                yield [Convolving(*own)]
                continue
            more = blobs[KINDS * steps + i : 2 * KINDS * steps : steps]
            yield [Convolving(more[0], *own[1:]), Convolving(own[0], *more[1:])]

    def _pass(self, x: Tensor) -> tuple[Tensor, list[tuple[Convolving, Statistics]]]:
        """The top, and in training the statistics that each normalization has found."""
        ones = self.blobs[-1].detach()
        factor = torch.where(ones == 0, 0.0, 1 / ones)
        found = []
        for step in self.convolutions():
            y = x
            for each in step:
                scale, bias = each.scale.reshape(-1), each.bias.reshape(-1)
                if self.training:
                    y, statistics = normalize_by_batch(y, EPS, scale, bias, self.gather_statistics)
                    found.append((each, statistics))
                else:
                    mean, variance = (
                        (sums.detach() * factor).reshape(-1) for sums in (each.mean, each.variance)
                    )
                    y = batch_norm(y, scale, bias, mean, variance, EPS, training=False)
                y = F.conv2d(F.relu(y), each.filter, padding=each.filter.shape[2] // 2)
            if self.use_dropout:
                y = F.dropout(y, self.dropout_amount, self.training)
            x = torch.cat([x, y], 1)
        return x, found

    @torch.no_grad()
    def _add_to_the_sums(self, found: list[tuple[Convolving, Statistics]]) -> None:
        fraction = self.moving_average_fraction
        for each, new in found:
            for sums, values in ((each.mean, new.mean), (each.variance, new.variance)):
                sums.mul_(fraction).add_(values.view_as(sums))
        self.blobs[-1].mul_(fraction).add_(1)
