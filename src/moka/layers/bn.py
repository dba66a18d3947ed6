"""BN, a layer that four forks of Caffe have under one name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.batch_statistics import (
    Statistics,
    batch_norm,
    normalize_by_batch,
    over_channels,
)
from moka.layers.options import not_negative, option
from moka.layers.registry import layer
from moka.layers.shapes import refuse_empty_axes
from moka.schema import caffe_pb2
from moka.schema.forms import form_of
from moka.types import Array, Shape

EPS_OF_SEGNET = 1e-9
ONE = caffe_pb2.FillerParameter(value=1)


def _state(config: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    """Mean and variance of the forms with four blobs; all of a frozen layer."""
    if not _has_four_blobs(config):
        return ()
    return (0, 1, 2, 3) if config.bn_param.frozen else (2, 3)


def _form(config: caffe_pb2.LayerParameter) -> str:
    form = form_of(config)
    return form.name if form else "slope_bias"  # SyncBN has this form only


def _has_four_blobs(config: caffe_pb2.LayerParameter) -> bool:
    of_ctpn = config.bn_param.HasField("axis")
    return _form(config) == "slope_bias" or (_form(config) == "moving_average" and of_ctpn)


_FROM_ANOTHER_FORK = "Forks store BN with two blobs or with four: the file is from another fork."


@layer(
    "BN",
    bottoms=1,
    tops=(1, 3),
    aliases=("SyncBN",),
    coordinates="same",
    state_blobs=_state,
    other_counts={(4, 2): _FROM_ANOTHER_FORK, (2, 4): _FROM_ANOTHER_FORK},
    fork="PSPNet, SegNet, ParseNet and CTPN",
)
class BN(Layer):
    """Bring each channel to mean 0 and variance 1, then scale it: y = a (x - mean) / sqrt(variance
    + eps) + b.

    Bottom and top: (N, C, ...). Message: bn_param; the options that are set choose the form.

    PSPNet, yjxiong, caffe-windows (without options too): four blobs (1, C, 1, 1), a, b, running
    mean and variance; the last two are not trained. A training pass takes the batch's statistics
    and makes running = momentum * running + (1 - momentum) * batch, with the biased variance.
    Testing, and a `frozen` layer, takes the running ones; a frozen layer trains nothing.

    SegNet, ENet (`scale_filler`, `shift_filler` or `bn_mode`): two blobs (1, C, 1, 1), a and b.
    `bn_mode: LEARN` takes the batch's statistics in both phases, eps 1e-9; INFERENCE is
    y = a x + b, for models into whose blobs the statistics were folded. A second and a third top,
    (1, C, 1, 1), hold the batch's mean and its biased variance, which SegNet's scripts average;
    they have no gradient, and with INFERENCE they are 0.

    ParseNet (`var_eps`, `moving_average`, `decay` or `across_spatial`): two blobs, a and b. With
    moving_average testing takes averages = decay * batch + (1 - decay) * averages of the training
    passes, which the model file does not hold. `across_spatial: false` normalizes each position by
    itself, with blobs (1, C, H, W).

    CTPN (`axis`, 1 or 2): as ParseNet, but channels lie along `axis`, and the averages are blobs 2
    and 3 of four, which each training pass renews; decay is 0.05 by default.

    a is 1 at first and b is 0, if no filler is given; the forks start with a = 0 then. A running
    variance is 0 at first, in a frozen layer 1. Stored blobs may have other axes of size 1.

    A SyncBN (yjxiong) takes the statistics of the batches of all processes that train the net.

    Errors: a bottom with one axis, or with another number of channels than the blobs; more than
    one top in other forms than SegNet's.
    """

    averages: Tensor | None  # of mean and variance, where no blobs hold them

    slope_filler: caffe_pb2.FillerParameter = option()
    bias_filler: caffe_pb2.FillerParameter = option()
    momentum: float = option()
    eps: float = option(not_negative)
    frozen: bool = option()
    engine: str = option()
    scale_filler: caffe_pb2.FillerParameter = option()
    shift_filler: caffe_pb2.FillerParameter = option()
    bn_mode: str = option()
    var_eps: float = option(not_negative)
    moving_average: bool = option()
    decay: float = option()
    across_spatial: bool = option()
    axis: float | None = option()

    def setup(self, x: Shape) -> None:
        self.form = _form(self.config)
        self.always_gathers = self.config.type == "SyncBN"
        self.four_blobs = _has_four_blobs(self.config)
        self.channel_axis = int(self.axis) if self.axis is not None else 1
        if self.channel_axis not in (1, 2) or len(x) <= self.channel_axis:
            raise NetError(f"axis must be 1 or 2 and an axis of the bottom, got axis"
                           f" {self.channel_axis} and shape {x}.")  # fmt: skip
        self.whole = self.form != "moving_average" or self.across_spatial
        self.kept = x[1:] if not self.whole else (x[self.channel_axis],)
        eps = {"slope_bias": self.eps, "scale_shift": EPS_OF_SEGNET}
        self.used_eps = eps.get(self.form, self.var_eps)
        inside = self.form == "moving_average" and self.moving_average and not self.four_blobs
        self.register_buffer(
            "averages", torch.zeros(2, prod(self.kept)) if inside else None, persistent=False
        )

    def top_shapes(self, x: Shape) -> list[Shape]:
        found = x[1:] if not self.whole else x[self.channel_axis : self.channel_axis + 1]
        if found != self.kept:
            raise NetError(f"the blobs were made for {self.kept}, got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        if self.form != "scale_shift":
            return [x]
        return [x, *[(1, x[1], 1, 1)] * 2][: self.top_count]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        shape = [1] * max(4, len(x)) if self.whole else [1, *self.kept]
        if self.whole:
            shape[self.channel_axis] = self.kept[0]
        first = ("slope_filler", "scale_filler")
        yield BlobSpec(tuple(shape), self._filler(first, ONE), "weight")
        second = ("bias_filler", "shift_filler")
        yield BlobSpec(tuple(shape), self._filler(second, caffe_pb2.FillerParameter()), "bias")
        if self.four_blobs:
            yield BlobSpec(tuple(shape), caffe_pb2.FillerParameter(), "mean")
            variance = ONE if self.frozen else caffe_pb2.FillerParameter()
            yield BlobSpec(tuple(shape), variance, "variance")

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """Versions of the forks store (1, C), (C,) or (1, C, 1, 1)."""
        adapted = dict(stored)
        for k, shape in enumerate(self.blob_shapes):
            if k in stored and _core(stored[k].shape) == _core(shape):
                adapted[k] = stored[k].reshape(shape)
        return adapted

    def _filler(
        self, names: Sequence[str], default: caffe_pb2.FillerParameter
    ) -> caffe_pb2.FillerParameter:
        given = (getattr(self, n) for n in names if self.config.bn_param.HasField(n))
        return next(given, default)

    @property
    def is_pure(self) -> bool:
        return not self.training and self.averages is None

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        y, statistics = self._normalized(x)
        keeps = self.training and (self.four_blobs or self.averages is not None)
        if keeps and statistics is not None and x.numel():
            self._average(statistics)
        return self._tops(y, statistics)

    def again(self, x: Tensor) -> Tensor | list[Tensor]:
        return self._tops(*self._normalized(x))

    def _tops(self, y: Tensor, statistics: Statistics | None) -> Tensor | list[Tensor]:
        if self.top_count == 1:
            return y
        found = _biased(statistics) if statistics and y.numel() else y.new_zeros(2, y.shape[1])
        return [y, *(values.to(y).view(1, -1, 1, 1) for values in found)][: self.top_count]

    def _normalized(self, x: Tensor) -> tuple[Tensor, Statistics | None]:
        """The first top, and the batch's statistics if it is normalized by them."""
        scale, bias = (blob.reshape(-1) for blob in self.blobs[:2])
        if self.form == "scale_shift" and self.bn_mode == "INFERENCE":
            return x * over_channels(scale, x) + over_channels(bias, x), None
        flat = x.transpose(1, self.channel_axis) if self.whole else x.flatten(1)
        statistics = None
        if self.uses_averages():
            mean, variance = self.stored()
            y = batch_norm(flat, scale, bias, mean, variance, self.used_eps, training=False)
        else:
            y, statistics = normalize_by_batch(
                flat, self.used_eps, scale, bias, self.gather_statistics
            )
        y = y.transpose(1, self.channel_axis) if self.whole else y.reshape(x.shape)
        return y, statistics

    def uses_averages(self) -> bool:
        if self.form == "slope_bias":
            return self.frozen or not self.training
        return self.form == "moving_average" and self.moving_average and not self.training

    def stored(self) -> Sequence[Tensor]:
        """The averages of mean and variance, flat, without a gradient."""
        if self.averages is not None:
            return self.averages.unbind()
        return [blob.detach().reshape(-1) for blob in self.blobs[2:]]

    @torch.no_grad()
    def _average(self, new: Statistics) -> None:
        share = 1 - self.momentum if self.form == "slope_bias" else self.decay
        averages = [
            old * (1 - share) + b * share
            for old, b in zip(self.stored(), _biased(new), strict=True)
        ]
        if self.averages is not None:
            self.averages = torch.stack(averages)
            return
        for blob, average in zip(self.blobs[2:], averages, strict=True):
            blob.detach().copy_(average.view_as(blob))

    def run_state(self) -> list[Tensor]:
        return [] if self.averages is None else [self.averages]

    def load_run_state(self, tensors: Sequence[Tensor]) -> None:
        if self.averages is not None:
            (given,) = tensors
            self.averages = given.to(self.averages)


def _biased(found: Statistics) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel, both (C,)."""
    return found.mean, found.variance * ((found.number - 1) / found.number)


def _core(shape: Shape) -> Shape:
    """The shape without its axes of size 1."""
    return tuple(n for n in shape if n != 1)
