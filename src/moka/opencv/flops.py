"""How many operations OpenCV counts for a layer. The numbers were measured with OpenCV 4.14."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from moka.layers.base import Layer
from moka.layers.pooling import Windows
from moka.types import Shape

Shapes = Sequence[Shape]
EACH_VALUE = {
    "AbsVal": 1,
    "BatchNorm": 3,
    "BNLL": 5,
    "ELU": 2,
    "Exp": 3,
    "Log": 1,
    "PReLU": 1,
    "ReLU": 1,
    "ReLU6": 2,
    "Scale": 2,
    "Sigmoid": 3,
    "Softmax": 4,
    "TanH": 1,
}  # for each number of the first top


def flops(layer: Layer, bottoms: Shapes, tops: Shapes) -> int:
    """The operations of one layer for these shapes; 0 for types that OpenCV does not count."""
    kind = layer.entry.type
    if kind in EACH_VALUE:
        return EACH_VALUE[kind] * prod(tops[0])
    return _BY_SHAPES[kind](layer, bottoms, tops) if kind in _BY_SHAPES else 0


def _convolution(layer: Layer, bottoms: Shapes, tops: Shapes) -> int:
    """All channels count, also with groups, and a bias also where there is none."""
    return prod(tops[0]) * (2 * _kernel(layer) * bottoms[0][1] + 1)


def _deconvolution(layer: Layer, bottoms: Shapes, _: Shapes) -> int:
    return 2 * prod(bottoms[0]) * _kernel(layer) * bottoms[0][1]


def _kernel(layer: Layer) -> int:
    return prod(layer.blob_shapes[0][2:])


def _inner_product(layer: Layer, _: Shapes, tops: Shapes) -> int:
    per_output = prod(layer.blob_shapes[0]) // tops[0][-1]
    return 3 * per_output * prod(tops[0])


def _pooling(layer: Layer, _: Shapes, tops: Shapes) -> int:
    config = layer.config.pooling_param
    windows: Windows = () if config.global_pooling else layer.windows  # type: ignore[assignment]
    area = prod(window.kernel for window in windows)
    return prod(tops[0]) * (area + (config.pool == config.AVE))


def _power(layer: Layer, _: Shapes, tops: Shapes) -> int:
    return (2 if layer.config.power_param.power == 1 else 10) * prod(tops[0])


def _eltwise(_: Layer, bottoms: Shapes, tops: Shapes) -> int:
    return len(bottoms) * prod(tops[0])


def _mvn(_: Layer, bottoms: Shapes, tops: Shapes) -> int:
    return 6 * prod(tops[0]) + 3 * prod(bottoms[0][:2])


def _prior_box(_: Layer, bottoms: Shapes, tops: Shapes) -> int:
    numbers = prod(tops[0][2:])  # four for each prior box
    return numbers + numbers // prod(bottoms[0][2:]) * prod(bottoms[1][2:])


def _lrn(layer: Layer, bottoms: Shapes, _: Shapes) -> int:
    config, shape = layer.config.lrn_param, bottoms[0]
    if config.norm_region == config.WITHIN_CHANNEL:
        return prod(shape) * (2 * config.local_size**2 + 2)
    return prod(shape) // shape[1] * (6 * shape[1] - 1)


_BY_SHAPES: dict[str, Callable[[Layer, Shapes, Shapes], int]] = {
    "Convolution": _convolution,
    "Deconvolution": _deconvolution,
    "Eltwise": _eltwise,
    "InnerProduct": _inner_product,
    "LRN": _lrn,
    "MVN": _mvn,
    "Pooling": _pooling,
    "Power": _power,
    "PriorBox": _prior_box,
}
