"""Inception v3 (Szegedy et al., "Rethinking the Inception architecture", CVPR 2016).

The names are those of TensorFlow's model of 2015.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from caffe import layers as L
from caffe import params as P
from caffe.model_libs.convolution import ConvBNLayer, Options
from caffe.net_spec import NetSpec, Top

MAX, AVE = P.Pooling.MAX, P.Pooling.AVE


def InceptionTower(
    net: NetSpec,
    from_layer: str,
    tower_name: str,
    layer_params: Sequence[Mapping[str, Any]],
    **bn_param: Any,
) -> Top:
    """Add layers one upon the other, and return the top of the last.

    Args:
        layer_params: of each layer its `name`, which becomes <tower_name>/<name>, and the fields of
            a Pooling layer if there is "pool" in that name, else arguments of `ConvBNLayer`.
            Convolutions have BatchNorm with Bias, and ReLU.
        bn_param: options of BatchNorm; see `ConvBNLayer`.
    """
    return net[_chain(net, from_layer, f"{tower_name}/", layer_params, **bn_param)]


def InceptionV3Body(
    net: NetSpec, from_layer: str, output_pred: bool = False, **bn_param: Any
) -> NetSpec:
    """Add Inception v3, whose last map is mixed_10/join.

    For images of 299 x 299 mixed_2/join is (N, 288, 35, 35), mixed_7/join (N, 768, 17, 17) and
    mixed_10/join (N, 2048, 8, 8).

    Args:
        output_pred: add softmax, the scores of 1008 classes, and softmax_prob.
        bn_param: options of BatchNorm; see `ConvBNLayer`.
    """
    stem = [
        _conv("conv", 32, 3, stride=2),
        _conv("conv_1", 32, 3),
        _conv("conv_2", 64, 3, pad=1),
        _pool("pool", MAX, stride=2),
        _conv("conv_3", 80),
        _conv("conv_4", 192, 3),
        _pool("pool_1", MAX, stride=2),
    ]
    last = _chain(net, from_layer, "", stem, **bn_param)
    for k, towers in enumerate(_all_towers()):
        last = _mixed(net, last, f"mixed_{k}" if k else "mixed", towers, **bn_param)
    if output_pred:
        net.pool_3 = L.Pooling(net[last], pool=AVE, kernel_size=8, pad=0, stride=1)
        net.softmax = L.InnerProduct(net.pool_3, num_output=1008)
        net.softmax_prob = L.Softmax(net.softmax)
    return net


class _Tower(NamedTuple):
    """A tower of an inception.

    Attributes:
        suffix: what follows the inception's name in the tower's.
        layers: as `InceptionTower` takes them.
        split: it ends in two convolutions of 384 channels side by side, 1x3 and 3x1.
    """

    suffix: str
    layers: list[Options]
    split: bool = False


def _all_towers() -> Iterator[list[_Tower]]:
    """The towers of mixed, mixed_1, ..., mixed_10."""
    for n in (32, 64, 64):
        double = [_conv("conv", 64), _conv("conv_1", 96, 3, pad=1), _conv("conv_2", 96, 3, pad=1)]
        yield [
            _Tower("", [_conv("conv", 64)]),
            _Tower("/tower", [_conv("conv", 48), _conv("conv_1", 64, 5, pad=2)]),
            _Tower("/tower_1", double),
            _Tower("/tower_2", [_pool("pool", AVE, pad=1), _conv("conv", n)]),
        ]
    double = [_conv("conv", 64), _conv("conv_1", 96, 3, pad=1), _conv("conv_2", 96, 3, stride=2)]
    yield [
        _Tower("", [_conv("conv", 384, 3, stride=2)]),
        _Tower("/tower", double),
        _Tower("", [_pool("pool", MAX, stride=2)]),
    ]
    for n in (128, 160, 160, 192):
        pair = [_conv("conv", n), _row("conv_1", n), _column("conv_2", 192)]
        pairs = [_column("conv_1", n), _row("conv_2", n), _column("conv_3", n), _row("conv_4", 192)]
        yield [
            _Tower("", [_conv("conv", 192)]),
            _Tower("/tower", pair),
            _Tower("/tower_1", [_conv("conv", n), *pairs]),
            _Tower("/tower_2", [_pool("pool", AVE, pad=1), _conv("conv", 192)]),
        ]
    pair = [_conv("conv", 192), _row("conv_1", 192), _column("conv_2", 192)]
    yield [
        _Tower("/tower", [_conv("conv", 192), _conv("conv_1", 320, 3, stride=2)]),
        _Tower("/tower_1", [*pair, _conv("conv_3", 192, 3, stride=2)]),
        _Tower("", [_pool("pool", MAX, stride=2)]),
    ]
    for pool in (AVE, MAX):
        yield [
            _Tower("", [_conv("conv", 320)]),
            _Tower("/tower", [_conv("conv", 384)], split=True),
            _Tower("/tower_1", [_conv("conv", 448), _conv("conv_1", 384, 3, pad=1)], split=True),
            _Tower("/tower_2", [_pool("pool", pool, pad=1), _conv("conv", 192)]),
        ]


def _conv(name: str, num_output: int, size: Any = 1, pad: Any = 0, stride: int = 1) -> Options:
    return dict(name=name, num_output=num_output, kernel_size=size, pad=pad, stride=stride)


def _row(name: str, num_output: int, width: int = 7) -> Options:
    """A convolution of 1 x width."""
    return _conv(name, num_output, [1, width], [0, width // 2])


def _column(name: str, num_output: int, height: int = 7) -> Options:
    """A convolution of height x 1."""
    return _conv(name, num_output, [height, 1], [height // 2, 0])


def _pool(name: str, pool: int, pad: int = 0, stride: int = 1) -> Options:
    return dict(name=name, pool=pool, kernel_size=3, pad=pad, stride=stride)


def _mixed(
    net: NetSpec, from_layer: str, name: str, towers: Iterable[_Tower], **bn_param: Any
) -> str:
    """Add towers on one map, and <name>/join of their tops. Returns the name of the latter."""
    tops = []
    for suffix, layers, split in towers:
        tower = f"{name}{suffix}"
        last = _chain(net, from_layer, f"{tower}/", layers, **bn_param)
        if split:
            sides = (_row("conv", 384, 3), _column("conv_1", 384, 3))
            halves = [InceptionTower(net, last, f"{tower}/mixed", [s], **bn_param) for s in sides]
            last = f"{tower}/mixed"
            net[last] = L.Concat(*halves, axis=1)
        tops.append(net[last])
    net[f"{name}/join"] = L.Concat(*tops, axis=1)
    return f"{name}/join"


def _chain(
    net: NetSpec,
    last: str,
    prefix: str,
    layer_params: Iterable[Mapping[str, Any]],
    **bn_param: Any,
) -> str:
    """Add layers one upon the other. Returns the name of the last."""
    for layer in layer_params:
        options = dict(layer)
        name = f"{prefix}{options.pop('name')}"
        if "pool" in name:
            net[name] = L.Pooling(net[last], **options)
        else:
            options |= dict(use_bn=True, use_relu=True, use_scale=False, **bn_param)
            ConvBNLayer(net, last, name, **options)
        last = name
    return last
