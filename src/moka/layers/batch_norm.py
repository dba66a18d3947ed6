"""BatchNorm: statistics of batches in training, averages of them in testing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.activation import relu
from moka.layers.arithmetic import Scale
from moka.layers.base import BlobSpec, Layer, Way
from moka.layers.batch_statistics import (
    Statistics,
    batch_norm,
    normalize_by_batch,
    normalize_in_part,
    normalize_parts_of_batch,
    over_channels,
)
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.schema import caffe_pb2
from moka.types import Array, Shape

LEAST_EPS = 1e-5  # of NVCaffe with scale and bias
STATISTICS = 3  # of the parameters: mean, variance, scale factor
ONE = caffe_pb2.FillerParameter(value=1)


def forks_of(options: caffe_pb2.BatchNormParameter) -> tuple[bool, bool]:
    """Whether a layer has NVCaffe's scale and bias, or Intel's."""
    given = options.HasField
    of_intel = options.use_weight_bias if given("use_weight_bias") else given("filler")
    of_nvcaffe = options.scale_bias or given("scale_filler")
    return of_nvcaffe or (given("bias_filler") and not of_intel), of_intel


@layer(
    "BatchNorm",
    bottoms=1,
    tops=1,
    aliases=("MKLBatchNorm",),
    coordinates="same",
    spares_top=True,
    state_blobs=STATISTICS,
    other_counts={
        (5, 3): "NVCaffe wrote it, whose BatchNorm has scale and bias: set scale_bias: true.",
        (3, 5): "The file's BatchNorm has no scale and bias: leave scale_bias out.",
    },
)
class BatchNorm(Layer):
    """Bring each channel to mean 0 and variance 1: y = (x - mean) / sqrt(variance + eps).

    Bottom and top: (N, C, ...). Blobs, which no solver trains: running sums of the mean (C,) and
    of the unbiased variance (C,), and a scale factor (1,), the weight of the sums. Each training
    pass multiplies all three by moving_average_fraction, then adds the batch's mean and variance
    and 1. In testing (or as use_global_stats says) the layer normalizes with the sums divided by
    the scale factor; a scale factor of 0 means mean 0 and variance 0. Message: batch_norm_param.
    Ioffe and Szegedy, 2015. A Scale layer usually follows: unlike PyTorch's layer, this one has no
    factor and bias.

    Forks give it more. NVCaffe's `scale_bias` (or a `scale_filler` or `bias_filler`) adds two blobs
    that are trained, scale (C,), 1 at first, and bias (C,), 0 at first: y times scale plus bias;
    eps is at least 1e-5; the averages are true ones, f * average + (1 - f) * batch with f =
    moving_average_fraction, and the scale factor is 1 from the first pass on; testing takes the
    averages whatever use_global_stats says. Intel's
    `use_weight_bias: true` or `filler` adds the same two blobs, without bias for `bias_term:
    false`, and leaves all else as it is. `relu` (Intel) or `fused_relu` (OpenCL branch) ends with
    max(y, 0). `stats_batch_size` (Intel; for a whole net `bn_stats_batch_size`): so many items at a
    time have statistics of their own in training, which are added to the sums one after another, as
    those of passes. `disable_mean` (caffe-windows) does not subtract the mean,
    and `disable_variance` does not divide. `update_global_stats` (PSPNet), with
    use_global_stats: true, adds the batches' statistics in training all the same.

    Errors: a bottom with one axis, or with another number of channels than the blobs; a learning
    rate for the statistics; both stats_batch_size and disable_mean or disable_variance.
    """

    use_global_stats: bool | None = option()
    moving_average_fraction: float = option()
    eps: float = option(not_negative)
    scale_bias: bool = option()
    scale_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    use_weight_bias: bool | None = option(unset_is_none=True)
    bias_term: bool = option()
    filler: caffe_pb2.FillerParameter = option()
    stats_batch_size: int = option()
    relu: bool = option()
    fused_relu: bool = option()
    update_global_stats: bool = option()
    disable_mean: bool = option()
    disable_variance: bool = option()

    def setup(self, x: Shape) -> None:
        if len(x) < 2:
            raise NetError(f"needs a channel axis, got a bottom of shape {x}.")
        for spec in self.config.param[:STATISTICS]:
            if spec.lr_mult != 0:
                raise NetError("Cannot configure batch normalization statistics as layer"
                               " parameters: drop the param entries.")  # fmt: skip
        self.channels = x[1]
        of_nvcaffe, of_intel = forks_of(self.config.batch_norm_param)
        self.has_scale = of_nvcaffe or of_intel
        self.has_bias = of_nvcaffe or (of_intel and self.bias_term)
        self.has_averages = of_nvcaffe
        self.in_part = self.disable_mean or self.disable_variance
        if not (self.in_part or self.stats_batch_size):
            self.precision = "keeps"  # PyTorch's kernels compute in float32, whatever they get
        if of_nvcaffe and not self.use_global_stats:
            self.use_global_stats = None  # as in NVCaffe false does not count in testing
        if of_nvcaffe:
            self.eps = max(self.eps, LEAST_EPS)
        if self.stats_batch_size and self.in_part:
            raise NetError("stats_batch_size needs both mean and variance: disable none of them.")
        self.has_relu = self.relu or self.fused_relu
        self.spares_top = not self.has_relu

    def top_shapes(self, x: Shape) -> list[Shape]:
        if x[1:2] != (self.channels,):
            raise NetError(
                f"there are statistics for {self.channels} channels, got a bottom of shape {x}."
            )
        return [x]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        zero = caffe_pb2.FillerParameter()
        yield BlobSpec((x[1],), zero, "mean")
        yield BlobSpec((x[1],), zero, "variance")
        yield BlobSpec((1,), zero, "scale_factor")
        given = self.config.batch_norm_param.HasField
        if self.has_scale:
            fillers = (getattr(self, name) for name in ("scale_filler", "filler") if given(name))
            yield BlobSpec((x[1],), next(fillers, ONE), "weight")
        if self.has_bias:
            yield BlobSpec((x[1],), self.bias_filler, "bias")

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """Those of NVCaffe in today's form: its blobs may be (1, C, 1, 1); in versions before 0.16
        scale and bias stand before the statistics, and what follows these does not count; and a
        scale factor of 0 beside statistics means 1."""
        size = {k: values.size for k, values in stored.items()}
        flat = {
            k: values.reshape(-1) if max(values.shape, default=1) == values.size else values
            for k, values in stored.items()
        }
        if self.has_scale and len(stored) == STATISTICS + 2:
            one = np.ones(1, np.float32)
            c = self.channels
            if c > 1 and [size.get(k) for k in range(5)] == [c, c, c, c, 1]:
                return {0: flat[2], 1: flat[3], 2: one, 3: flat[0], 4: flat[1]}
            if size.get(2) == 1 and not flat[2].any() and flat[1].any():
                return {**flat, 2: one}
        return flat

    @property
    def is_pure(self) -> bool:
        return not self.training and self._uses_the_sums()

    def forward(self, x: Tensor) -> Tensor:
        return self.normalized(x, *self._scale_and_bias())

    def again(self, x: Tensor) -> Tensor:
        return self._normalized(x, *self._scale_and_bias())[0]

    def normalized(
        self, x: Tensor, scale: Tensor | None, bias: Tensor | None, *, again: bool = False
    ) -> Tensor:
        """The top with this scale and bias (C,).

        Args:
            again: as `Layer.again`; else the batch's statistics are added to the sums.
        """
        y, statistics = self._normalized(x, scale, bias)
        if x.numel() and not again:  # an empty batch has none
            for each in statistics:
                self._add_to_the_sums(each)
        return y

    def merged_with(self, reader: Layer) -> Way | None:
        is_plain = not (self.has_scale or self.has_relu or self.in_part)
        if is_plain and isinstance(reader, Scale) and reader.is_by_channel:
            return _Scaled(self, reader)
        return None

    def _normalized(
        self, x: Tensor, scale: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, Sequence[Statistics]]:
        """The top, and the statistics that are to be added to the sums."""
        if not self._uses_the_sums():
            y, statistics = self._with_the_batch(x, scale, bias)
        else:
            y, statistics = self._with_the_sums(x, scale, bias), []
            if self.update_global_stats and self.training:
                gather = self.gather_statistics
                statistics = [normalize_by_batch(x.detach(), self.eps, gather=gather)[1]]
        return (relu(y) if self.has_relu else y), statistics

    def _uses_the_sums(self) -> bool:
        return not self.training if self.use_global_stats is None else self.use_global_stats

    def _with_the_sums(self, x: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
        mean, variance, weight = (blob.detach() for blob in self.blobs[:STATISTICS])
        factor = torch.where(weight == 0, 0.0, 1 / weight)
        if self.disable_mean:
            mean = torch.zeros_like(mean)
        if self.disable_variance:
            return _scaled(x - over_channels(mean * factor, x), scale, bias)
        mean, variance = mean * factor, variance * factor
        return batch_norm(x, scale, bias, mean, variance, self.eps, training=False)

    def _with_the_batch(
        self, x: Tensor, scale: Tensor | None, bias: Tensor | None
    ) -> tuple[Tensor, list[Statistics]]:
        if self.gather_statistics and (self.in_part or self.stats_batch_size):
            raise NetError(
                "the statistics of several processes cannot be put together with stats_batch_size,"
                " disable_mean or disable_variance.",
                advice="Leave sync_bn out, or that option.",
            )
        if self.in_part:
            y, statistics = normalize_in_part(
                x, self.eps, center=not self.disable_mean, divide=not self.disable_variance
            )
            return _scaled(y, scale, bias), [statistics]
        if 0 < self.stats_batch_size < len(x):
            return normalize_parts_of_batch(x, self.stats_batch_size, self.eps, scale, bias)
        y, statistics = normalize_by_batch(x, self.eps, scale, bias, self.gather_statistics)
        return y, [statistics]

    def _scale_and_bias(self) -> tuple[Tensor | None, Tensor | None]:
        learned = self.blobs[STATISTICS:]
        return (
            learned[0] if self.has_scale else None,
            learned[1] if self.has_bias else None,
        )

    @torch.no_grad()
    def _add_to_the_sums(self, new: Statistics) -> None:
        mean, variance, weight = self.blobs[:STATISTICS]
        fraction = self.moving_average_fraction
        if not self.has_averages:
            for total, value in ((mean, new.mean), (variance, new.variance), (weight, 1.0)):
                total.mul_(fraction).add_(value)
            return
        old = torch.where(weight == 0, 0.0, fraction / weight)  # no average before the first pass
        share = torch.where(weight == 0, 1.0, 1 - fraction)
        for average, value in ((mean, new.mean), (variance, new.variance)):
            average.mul_(old).add_(value * share)
        weight.fill_(1.0)


def _scaled(y: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    if scale is not None:
        y = y * over_channels(scale, y)
    return y if bias is None else y + over_channels(bias, y)


class _Scaled:
    """A Scale that gets the bottom of the BatchNorm before it, and does the work of both.

    PyTorch's kernels for batch normalization take scale and bias along: 9 ms instead of 17 for
    32 MB, forward and backward, and one blob less to keep.
    """

    def __init__(self, norm: BatchNorm, scale: Scale) -> None:
        self.norm, self.scale = norm, scale

    def __call__(self, x: Tensor) -> Tensor:
        return self.norm.normalized(x, *self._scale_and_bias())

    def again(self, x: Tensor) -> Tensor:
        return self.norm.normalized(x, *self._scale_and_bias(), again=True)

    def _scale_and_bias(self) -> tuple[Tensor, Tensor | None]:
        scale, *bias = self.scale.blobs
        return scale, bias[0] if bias else None
