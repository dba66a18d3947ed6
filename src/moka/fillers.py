"""Initial values of parameters, by the `type` of a FillerParameter.

Random numbers come from torch's default generator, so one seed governs a run.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod, sqrt

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError, did_you_mean
from moka.free_memory import check_free
from moka.schema import caffe_pb2
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.types import Shape

Filler = Callable[[caffe_pb2.FillerParameter, Shape], Tensor]

FILLERS: dict[str, Filler] = {}
FORKS_FILLER_OPTIONS = {"diagonal": ("diag_val",), "msra": ("alpha",)}  # by filler


def filler(name: str) -> Callable[[Filler], Filler]:
    """Register a function under the name of its filler; a second registration is refused."""

    def register(function: Filler) -> Filler:
        if name in FILLERS:
            raise ValueError(f"filler {name} is registered twice")
        FILLERS[name] = function
        return function

    return register


def _device_type() -> str:
    """The device of new tensors; PyTorch 2.6's get_default_device() knows no `with device`."""
    return torch.empty(0).device.type


def fill(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """A new float32 tensor of `shape`, filled as `spec` says.

    Raises:
        NetError: an unknown filler, a shape or value that the filler does not take, or more bytes
            than are free.
    """
    function = FILLERS.get(spec.type)
    if function is None:
        raise NetError(
            f'unknown filler "{spec.type}" (known: {", ".join(sorted(FILLERS))}).',
            advice=did_you_mean(spec.type, FILLERS),
        )
    for field, value in spec.ListFields():
        known = field.name in FORKS_FILLER_OPTIONS.get(spec.type, ())
        if field.number >= FIRST_FORK_NUMBER and not known and value != field.default_value:
            raise NetError(f"{field.name} is an option of a fork that no filler here has.")
    if spec.sparse != -1 and spec.type != "gaussian":
        raise NetError(f"sparse is for the gaussian filler only, not for {spec.type}.")
    if _device_type() != "meta":
        check_free(4 * prod(shape), f"a blob of shape {shape}")
    return function(spec, shape) if 0 not in shape else torch.empty(shape)


@filler("constant")
def constant(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Every element `value`."""
    if spec.value == 0:
        if _device_type() == "cpu":
            # Takes memory and time only when somebody writes, unlike torch.zeros.
            return torch.from_numpy(np.zeros(shape, np.float32))
        return torch.zeros(shape)
    return torch.full(shape, spec.value)


@filler("uniform")
def uniform(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Uniform in [min, max)."""
    if not 0 <= spec.max - spec.min <= torch.finfo(torch.float32).max:
        raise NetError(
            f"the uniform filler needs finite min <= max, got min {spec.min:g}, max {spec.max:g}."
        )
    return torch.empty(shape).uniform_(spec.min, spec.max)


@filler("gaussian")
def gaussian(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Normal with `mean` and `std`; `sparse` keeps each value with probability sparse / shape[0].

    The other values are 0. As in Caffe, shape[0] is the number of outputs, not of inputs.
    """
    if not spec.std >= 0:
        raise NetError(f"std of the gaussian filler must be >= 0, got {spec.std:g}.")
    values = torch.empty(shape).normal_(spec.mean, spec.std)
    if spec.sparse >= 0:
        if not shape:
            raise NetError("sparse is for blobs with axes, not for a scalar.")
        chance = min(1.0, spec.sparse / shape[0])
        values *= torch.empty(shape).bernoulli_(chance)
    return values


@filler("positive_unitball")
def positive_unitball(_: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Uniform positive values whose sum over everything but the first axis is 1."""
    values = torch.rand(shape)
    rows = values.view(*(shape[:1] or (1,)), -1)
    rows /= rows.sum(1, keepdim=True)
    return values


@filler("xavier")
def xavier(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Uniform within +-sqrt(3 / n), n by `variance_norm` (Glorot and Bengio, 2010)."""
    bound = sqrt(3.0 / _fan(spec, shape))
    return torch.empty(shape).uniform_(-bound, bound)


@filler("msra")
def msra(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Normal with variance 2 / (n (1 + alpha^2)), n by `variance_norm` (He et al., 2015).

    alpha, 0 unless given, is the slope for negative values of the rectifier behind (caffe-windows).
    """
    return torch.empty(shape).normal_(0.0, sqrt(2.0 / (_fan(spec, shape) * (1 + spec.alpha**2))))


@filler("bilinear")
def interpolation_weights(_: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """Weights of bilinear interpolation, for an upsampling Deconvolution with group = channels.

    With f = ceil(k/2) and c = (k - 1) / (2f) a weight is (1 - |x/f - c|) (1 - |y/f - c|).
    """
    if len(shape) != 4 or shape[2] != shape[3]:
        raise NetError(f"the bilinear filler needs a 4-D blob with a square kernel, got {shape}.")
    size = shape[3]
    half = ceil(size / 2)
    center = (size - 1) / (2 * half)
    line = 1 - (torch.arange(size) / half - center).abs()
    return (line[:, None] * line).expand(shape).contiguous()


@filler("diagonal")
def diagonal(spec: caffe_pb2.FillerParameter, shape: Shape) -> Tensor:
    """FlowNet2: output n is the mean of input n's window, times diag_val number n, or 1 if there
    are fewer; the other weights are 0."""
    if len(shape) < 2:
        raise NetError(f"the diagonal filler needs a blob with outputs and inputs, got {shape}.")
    values = torch.zeros(shape)
    for n in range(min(shape[:2])):
        value = spec.diag_val[n] if n < len(spec.diag_val) else 1.0
        values[n, n] = value / prod(shape[2:])
    return values


def _fan(spec: caffe_pb2.FillerParameter, shape: Shape) -> float:
    """FAN_IN: elements per output; FAN_OUT: elements per input; AVERAGE: the mean of both."""
    count = prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / (shape[1] if len(shape) > 1 else 1)
    if spec.variance_norm == caffe_pb2.FillerParameter.AVERAGE:
        return (fan_in + fan_out) / 2
    return fan_out if spec.variance_norm == caffe_pb2.FillerParameter.FAN_OUT else fan_in
