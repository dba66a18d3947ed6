"""Layers that compute with few bits, as Ristretto simulates them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.conv import (
    Convolution,
    Deconvolution,
    convolution,
    convolution_layer,
    deconvolution,
)
from moka.layers.linear import InnerProduct, inner_product
from moka.layers.normalize import LRN
from moka.layers.options import LAYER, option
from moka.layers.registry import DrawStyle, layer
from moka.layers.shapes import canonical_axis
from moka.schema import caffe_pb2
from moka.types import Shape

FRACTION = 16  # bits behind the point, if a net does not say it
Rounding = Callable[[Tensor], Tensor]


def round_to_nearest(x: Tensor) -> Tensor:
    """To the nearest whole number; halves away from 0."""
    return x.sign() * (x.abs() + 0.5).floor()


def stochastic(x: Tensor) -> Tensor:
    """To one of the two whole numbers around, by chance, so that the mean stays."""
    return (x + torch.rand_like(x)).floor()


def fixed_point(x: Tensor, bits: int, fraction: int, rounding: Rounding) -> Tensor:
    """x in `bits` bits, `fraction` of them behind the point: a multiple of 2^-fraction, bounded."""
    unit = 2.0**-fraction
    most = 2.0 ** (bits - 1)
    return rounding(x.clamp(-most * unit, (most - 1) * unit) / unit) * unit


def minifloat(x: Tensor, mantissa: int, exponent: int, rounding: Rounding) -> Tensor:
    """x with a sign, `mantissa` and `exponent` bits, as in float32 but without its special values.

    What is too small becomes 0, what is too large the largest.
    """
    bias = 2 ** (exponent - 1) - 1
    fraction, power = torch.frexp(x.abs().float())
    significand, biased = 2 * fraction.to(x.dtype) - 1, power - 1 + bias
    largest, steps = 2**exponent - 1, 2.0**mantissa
    rounded = rounding(significand * steps) / steps
    rounded = torch.where(biased > largest, (steps - 1) / steps, rounded)
    value = torch.ldexp(1 + rounded, biased.clamp_max(largest) - bias)
    tiny = x.abs() < torch.finfo(torch.float32).tiny
    return torch.where(tiny | (biased < 0), 0.0, x.sign() * value)


def power_of_two(x: Tensor, least: int, most: int, rounding: Rounding) -> Tensor:
    """x as a power of two with its sign, the exponent in [least, most]; 0 becomes 2^least."""
    exponent = rounding(x.abs().log2().clamp_min(least - 1)).clamp(least, most)
    return torch.where(x < 0, -1.0, 1.0) * torch.exp2(exponent)


class Quantized:
    """Mixin for Ristretto's layers: they compute with quantized values.

    The gradient passes the quantization as if it were not there.
    """

    config: caffe_pb2.LayerParameter
    training: bool

    def quantize_parameters(self, blobs: Sequence[Tensor]) -> list[Tensor]:
        """Weight and bias as they are multiplied; in training rounded by chance."""
        param = self.config.quantization_param
        if param.precision == param.INTEGER_POWER_OF_2_WEIGHTS:
            least, most, how = param.exp_min, param.exp_max, self._rounding()
            weight = _straight_through(blobs[0], power_of_two(blobs[0], least, most, how))
            return [weight, *blobs[1:]]
        return [self._trimmed(b, param.bw_params, param.fl_params) for b in blobs]

    def quantize_input(self, x: Tensor) -> Tensor:
        """A bottom as it is multiplied: in testing only."""
        param = self.config.quantization_param
        return self._activation(x, param.bw_layer_in, param.fl_layer_in)

    def quantize_output(self, y: Tensor) -> Tensor:
        """A top: in testing only."""
        param = self.config.quantization_param
        return self._activation(y, param.bw_layer_out, param.fl_layer_out)

    def _activation(self, x: Tensor, bits: int, fraction: Sequence[int]) -> Tensor:
        param = self.config.quantization_param
        if self.training or param.precision == param.INTEGER_POWER_OF_2_WEIGHTS:
            return x
        return self._trimmed(x, bits, fraction)

    def _trimmed(self, x: Tensor, bits: int, fraction: Sequence[int]) -> Tensor:
        param = self.config.quantization_param
        if param.precision == param.MINIFLOAT:
            quantized = minifloat(x.detach(), param.mant_bits, param.exp_bits, self._rounding())
        else:
            behind = fraction[0] if fraction else FRACTION
            quantized = fixed_point(x.detach(), bits, behind, self._rounding())
        return _straight_through(x, quantized)

    @property
    def is_pure(self) -> bool:
        return not self.training and self._rounding() is round_to_nearest

    def _rounding(self) -> Rounding:
        param = self.config.quantization_param
        by_chance = self.training or param.rounding_scheme == param.STOCHASTIC
        return stochastic if by_chance else round_to_nearest


def _straight_through(x: Tensor, quantized: Tensor) -> Tensor:
    """The quantized values, with the gradient of x."""
    return quantized.detach() + (x - x.detach())


@convolution_layer("ConvolutionRistretto", bfloat16="float32", spares_top=False, fork="Ristretto")
class ConvolutionRistretto(Quantized, Convolution):
    """A Convolution with few bits: parameters are quantized, in testing bottoms and tops too.

    `quantization_param` says how. DYNAMIC_FIXED_POINT (default): round(x 2^fl) 2^-fl, bounded by
    what bw bits with a sign hold; bw and fl are bw_params and fl_params for the parameters,
    bw_layer_in, fl_layer_in, bw_layer_out and fl_layer_out for bottoms and tops. MINIFLOAT: floats
    of mant_bits and exp_bits. INTEGER_POWER_OF_2_WEIGHTS: weights become powers of two with
    exponents from exp_min to exp_max, and nothing else is quantized. In training rounding is by
    chance, else as rounding_scheme says. The gradient passes by, and the parameters themselves
    keep all their bits.

    Bottoms, tops, blobs, message and errors: those of Convolution. Gysel et al., 2016. Ristretto
    quantizes bottoms in their place, where other layers see it too; here only this layer does.
    """

    quantization_param: caffe_pb2.QuantizationParameter = option(of=LAYER)

    def compute(self, x: Tensor) -> Tensor:
        blobs = self.quantize_parameters(self.blobs)
        x = self.quantize_input(x)
        y = convolution(x, *blobs, windows=self.windows, group=self.group)
        return self.quantize_output(y)


@convolution_layer(
    "DeconvolutionRistretto",
    coordinates="transposed window",
    bfloat16="float32",
    spares_top=False,
    fork="Ristretto",
)
class DeconvolutionRistretto(Quantized, Deconvolution):
    """A Deconvolution with few bits, see ConvolutionRistretto.

    Bottoms, tops, blobs, message and errors: those of Deconvolution. Gysel et al., 2016.
    """

    quantization_param: caffe_pb2.QuantizationParameter = option(of=LAYER)

    def compute(self, x: Tensor) -> Tensor:
        blobs = self.quantize_parameters(self.blobs)
        x = self.quantize_input(x)
        y = deconvolution(x, *blobs, windows=self.windows, group=self.group)
        return self.quantize_output(y)


@layer(
    "FcRistretto",
    bottoms=1,
    tops=1,
    message="inner_product_param",
    bfloat16="float32",
    fork="Ristretto",
    drawn=DrawStyle("#CC33FF", edge="{num_output}", rates=True),
)
class FcRistretto(Quantized, InnerProduct):
    """An InnerProduct with few bits, see ConvolutionRistretto.

    Bottom, top, blobs, message and errors: those of InnerProduct. Gysel et al., 2016.
    """

    quantization_param: caffe_pb2.QuantizationParameter = option(of=LAYER)

    def forward(self, x: Tensor, *given: Tensor) -> Tensor:
        split = canonical_axis(self.axis, tuple(x.shape))
        blobs = self.quantize_parameters(self.blobs)
        x = self.quantize_input(x)
        y = inner_product(x, *blobs, axis=split, transpose=self.transpose)
        return self.quantize_output(y)


@layer(
    "LRNRistretto",
    bottoms=1,
    tops=1,
    message="lrn_param",
    coordinates="same",
    bfloat16="float32",
    fork="Ristretto",
)
class LRNRistretto(LRN):
    """An LRN across channels in which every step is rounded to a small float.

    With q(v) = v in floats of mant_bits and exp_bits, rounded to nearest: a running sum of
    q(q(x)^2) over the channels of the window, rounded after each channel that enters or leaves;
    d = q(k + q(sum alpha / n)); y = q(q(x) q(d^-beta)). The gradient is that of LRN.

    Bottom, top and message: those of LRN. Gysel et al., 2016.

    Errors: those of LRN; a precision other than MINIFLOAT; a region other than ACROSS_CHANNELS.
    """

    quantization_param: caffe_pb2.QuantizationParameter = option(of=LAYER)

    def setup(self, x: Shape) -> None:
        super().setup(x)
        if self.quantization_param.precision != caffe_pb2.QuantizationParameter.MINIFLOAT:
            raise NetError("quantization_param.precision must be MINIFLOAT.")
        if self.norm_region != "ACROSS_CHANNELS":
            raise NetError(f"norm_region must be ACROSS_CHANNELS, got {self.norm_region}.")

    def normalized(self, x: Tensor) -> Tensor:
        exact = super().normalized(x)
        with torch.no_grad():
            q = self._small
            y = q(q(x) * q(self._divisors(q(x)).pow(-self.beta)))
        return _straight_through(exact, y)

    def _small(self, x: Tensor) -> Tensor:
        param = self.quantization_param
        return minifloat(x, param.mant_bits, param.exp_bits, round_to_nearest)

    def _divisors(self, x: Tensor) -> Tensor:
        """d for each value of the rounded bottom."""
        q, channels, half = self._small, x.shape[1], (self.local_size - 1) // 2
        squares = q(x * x)
        total = torch.zeros_like(squares[:, 0])
        rows = []
        for head in range(channels + half):
            if head < channels:
                total = q(total + squares[:, head])
            if head >= self.local_size:
                total = q(total - squares[:, head - self.local_size])
            if head >= half:
                rows.append(q(self.k + q(total * (self.alpha / self.local_size))))
        return torch.stack(rows, 1)
