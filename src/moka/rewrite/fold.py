"""Fold BatchNorm, BN, Scale and Bias into the layer before them.

In testing all of them are y = a x + b with an a and a b for each channel, if their options say so.
Two of them in a row are one, and one after a convolution or an InnerProduct is a change of its
weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

import torch
from google.protobuf.message import Message
from torch import Tensor

from moka.layers import REGISTRY
from moka.layers.batch_norm import LEAST_EPS, forks_of
from moka.rewrite.model import Model, WeightedLayer
from moka.schema import caffe_pb2
from moka.schema.forks import FIRST_FORK_NUMBER
from moka.schema.forms import form_of


class Affine(NamedTuple):
    """y = factor x + shift, with float64 values (C,) for the channels of (N, C, ...)."""

    factor: Tensor
    shift: Tensor


def fold_scales(model: Model, keep: Collection[str] = ()) -> Model:
    """The model with each BatchNorm, BN, Scale and Bias folded into the layer before it, if that is
    possible and nobody else reads what stands between the two.

    Args:
        keep: blobs that must keep a layer that makes them.
    """
    for merge in (_one_affine, _with_changed_weights):  # so weights are multiplied once
        j = 0
        while j < len(model.layers):
            folded = _fold_one(model, j, keep, merge)
            if folded is None:
                j += 1
            else:
                model = folded
    return model


def _fold_one(model: Model, j: int, keep: Collection[str], merge: Merge) -> Model | None:
    """The model with layer `j` folded into the layer before it, or None."""
    after = model.layers[j]
    affine = affine_of(after)
    if affine is None or len(after.config.bottom) != 1:
        return None
    readers = model.readers()
    i = next((i for i in range(j) for used in readers[i] if used == [j]), None)
    if i is None:
        return None
    before, top = model.layers[i], after.config.top[0]
    name = before.config.top[0]
    if len(before.config.top) != 1 or (name in keep and name != top):
        return None
    merged = merge(before, affine)
    if merged is None:
        return None
    layers = list(model.layers)
    layers[i] = merged.with_tops([top])
    del layers[j]
    return replace(model, layers=tuple(layers))


def affine_of(layer: WeightedLayer) -> Affine | None:
    """The factors a and shifts b if a layer is y = a x + b for each channel; else None."""
    find = _AFFINE.get(_type_of(layer))
    return find(layer) if find else None


def _type_of(layer: WeightedLayer) -> str:
    """The type's own name, whatever alias the file has."""
    return REGISTRY[layer.config.type].type


def _of_batch_norm(layer: WeightedLayer) -> Affine | None:
    options = layer.config.batch_norm_param
    of_nvcaffe, _ = forks_of(options)
    says_batch = options.HasField("use_global_stats") and not options.use_global_stats
    uses_batch = says_batch and not of_nvcaffe
    if uses_batch or options.relu or options.fused_relu:
        return None
    mean, variance, weight, *learned = (blob.double() for blob in layer.blobs)
    scale = 1 / weight if weight else torch.zeros_like(weight)
    mean = torch.zeros_like(mean) if options.disable_mean else mean * scale
    eps = max(options.eps, LEAST_EPS) if of_nvcaffe else options.eps
    factor = (variance * scale + eps).rsqrt()
    if options.disable_variance:
        factor = torch.ones_like(factor)
    return _normalizing(mean, factor, *learned)


def _of_bn(layer: WeightedLayer) -> Affine | None:
    options, form = layer.config.bn_param, form_of(layer.config)
    scale, bias, *statistics = (blob.double().reshape(-1) for blob in layer.blobs)
    if form is None or form.name == "slope_bias":
        mean, variance = statistics
        return _normalizing(mean, (variance + options.eps).rsqrt(), scale, bias)
    if form.name == "scale_shift":
        return Affine(scale, bias) if options.bn_mode == options.INFERENCE else None
    by_channel = options.across_spatial and options.axis == 1
    if not (by_channel and options.moving_average and statistics):
        return None
    mean, variance = statistics
    return _normalizing(mean, (variance + options.var_eps).rsqrt(), scale, bias)


def _normalizing(
    mean: Tensor, inverse: Tensor, scale: Tensor | None = None, bias: Tensor | None = None
) -> Affine:
    """scale (x - mean) inverse + bias."""
    factor = inverse if scale is None else inverse * scale
    return Affine(factor, -mean * factor + (0 if bias is None else bias))


def _of_scale(layer: WeightedLayer) -> Affine | None:
    options = layer.config.scale_param
    if not _is_by_channel(layer, options):
        return None
    factor, *shift = (blob.double() for blob in layer.blobs)
    return Affine(factor, shift[0] if shift else torch.zeros_like(factor))


def _of_bias(layer: WeightedLayer) -> Affine | None:
    if not _is_by_channel(layer, layer.config.bias_param):
        return None
    (shift,) = (blob.double() for blob in layer.blobs)
    return Affine(torch.ones_like(shift), shift)


def _is_by_channel(
    layer: WeightedLayer, options: caffe_pb2.ScaleParameter | caffe_pb2.BiasParameter
) -> bool:
    learned = len(layer.config.bottom) == 1
    return learned and (options.axis, options.num_axes, layer.blobs[0].dim()) == (1, 1, 1)


_AFFINE: dict[str, Callable[[WeightedLayer], Affine | None]] = {
    "BN": _of_bn,
    "BatchNorm": _of_batch_norm,
    "Scale": _of_scale,
    "Bias": _of_bias,
}


# A function that makes one layer of a layer and what follows it, or None.
Merge = Callable[[WeightedLayer, Affine], WeightedLayer | None]


def _one_affine(layer: WeightedLayer, affine: Affine) -> WeightedLayer | None:
    own = affine_of(layer)
    if own is None:
        return None
    shift = own.shift * affine.factor + affine.shift
    return _scale_layer(layer, Affine(own.factor * affine.factor, shift))


def _with_changed_weights(layer: WeightedLayer, affine: Affine) -> WeightedLayer | None:
    scaled = _WEIGHTS.get(_type_of(layer))
    if scaled is None or len(layer.config.bottom) != 1:
        return None
    weight = scaled(layer, affine.factor.float())
    if weight is None:
        return None
    shift = affine.shift
    if len(layer.blobs) > 1:
        shift = shift + affine.factor * layer.blobs[1].double()
    return with_bias(layer, weight, shift.float())


def with_bias(layer: WeightedLayer, weight: Tensor, bias: Tensor) -> WeightedLayer:
    """A Convolution, Deconvolution or InnerProduct with other parameters, a bias among them."""
    config = caffe_pb2.LayerParameter()
    config.CopyFrom(layer.config)
    _options(config).bias_term = True
    return WeightedLayer(config, (weight, bias))


def _scale_layer(layer: WeightedLayer, affine: Affine) -> WeightedLayer:
    config = caffe_pb2.LayerParameter(
        name=layer.config.name,
        type="Scale",
        bottom=layer.config.bottom,
        top=layer.config.top,
        phase=layer.config.phase,
    )
    config.scale_param.bias_term = True
    return WeightedLayer(config, (affine.factor.float(), affine.shift.float()))


def _options(
    config: caffe_pb2.LayerParameter,
) -> caffe_pb2.ConvolutionParameter | caffe_pb2.InnerProductParameter:
    if config.type == "InnerProduct":
        return config.inner_product_param
    return config.convolution_param


def _convolution(layer: WeightedLayer, factor: Tensor) -> Tensor | None:
    options = layer.config.convolution_param
    if options.axis != 1 or _ends_with_a_rectifier(options):
        return None
    weight = layer.blobs[0]
    return weight * factor.reshape(-1, *(1,) * (weight.dim() - 1))


def _deconvolution(layer: WeightedLayer, factor: Tensor) -> Tensor | None:
    options = layer.config.convolution_param
    if options.axis != 1 or _ends_with_a_rectifier(options):
        return None
    weight, group = layer.blobs[0], options.group
    grouped = weight.reshape(group, -1, *weight.shape[1:])
    factors = factor.reshape(group, 1, -1, *(1,) * (weight.dim() - 2))
    return (grouped * factors).reshape(weight.shape)


def _inner_product(layer: WeightedLayer, factor: Tensor) -> Tensor | None:
    options = layer.config.inner_product_param
    if options.axis != 1 or has_options_of_forks(options):
        return None
    return layer.blobs[0] * (factor if options.transpose else factor[:, None])


_WEIGHTS: dict[str, Callable[[WeightedLayer, Tensor], Tensor | None]] = {
    "Convolution": _convolution,
    "ConvolutionDepthwise": _convolution,
    "Deconvolution": _deconvolution,
    "DepthwiseConvolution": _convolution,
    "InnerProduct": _inner_product,
    "NdConvolution": _convolution,
}


def _ends_with_a_rectifier(options: caffe_pb2.ConvolutionParameter) -> bool:
    """Whether a fork's option makes the layer's own top nonlinear."""
    return options.relu or options.fuse_type != options.UNFUSED


def has_options_of_forks(options: Message) -> bool:
    """Whether an option is set that BVLC Caffe does not have; it may change what a layer does."""
    return any(field.number >= FIRST_FORK_NUMBER for field, _ in options.ListFields())
