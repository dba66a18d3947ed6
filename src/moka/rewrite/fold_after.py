"""Fold BatchNorm, Scale and Bias into the layer after them, where nothing stands before them.

y = a x + b for each channel, followed by W y + c, is (W a) x + (W b + c). It is exact for an
InnerProduct, and for a Convolution without padding; with padding only if b is 0, for padding is 0
and not b.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

import torch
from torch import Tensor

from moka.rewrite.fold import Affine, affine_of, has_options_of_forks, with_bias
from moka.rewrite.model import Model, WeightedLayer


def fold_scales_forward(model: Model, keep: Collection[str] = ()) -> Model:
    """The model with each BatchNorm, Scale and Bias folded into the layer after it, if that is
    exact and nobody else reads what stands between the two. The blob between them vanishes.

    Args:
        keep: blobs that must keep a layer that makes them.
    """
    for j in reversed(range(len(model.layers))):  # so that of two in a row both go
        model = _fold_one(model, j, keep) or model
    return model


def _fold_one(model: Model, j: int, keep: Collection[str]) -> Model | None:
    before = model.layers[j]
    affine = affine_of(before)
    if affine is None or len(before.config.bottom) != 1 or before.config.top[0] in keep:
        return None
    (readers,) = model.readers()[j]
    if len(readers) != 1:
        return None
    k = readers[0]
    after = model.layers[k]
    bottom = before.config.bottom[0]
    if len(after.config.bottom) != 1:
        return None
    fold = _INTO.get(after.config.type)
    merged = fold(after, affine) if fold else None
    if merged is None:
        return None
    layers = list(model.layers)
    layers[k] = merged.with_blobs_named([bottom], merged.config.top)
    del layers[j]
    return replace(model, layers=tuple(layers))


def _into_convolution(layer: WeightedLayer, affine: Affine) -> WeightedLayer | None:
    options = layer.config.convolution_param
    padded = any(options.pad) or options.pad_h or options.pad_w
    if options.axis != 1 or has_options_of_forks(options) or (padded and affine.shift.any()):
        return None
    weight, group = layer.blobs[0], options.group
    by_group = weight.double().reshape(group, -1, *weight.shape[1:])
    spread = (group, 1, -1, *(1,) * (weight.dim() - 2))
    if affine.factor.numel() != group * weight.shape[1]:
        return None
    scaled = (by_group * affine.factor.reshape(spread)).reshape(weight.shape)
    shift = (by_group * affine.shift.reshape(spread)).flatten(2).sum(2).reshape(-1)
    return _with(layer, scaled, shift)


def _into_inner_product(layer: WeightedLayer, affine: Affine) -> WeightedLayer | None:
    options = layer.config.inner_product_param
    if options.axis != 1 or has_options_of_forks(options):
        return None
    rows = (layer.blobs[0].t() if options.transpose else layer.blobs[0]).double()
    repeats, rest = divmod(rows.shape[1], affine.factor.numel())
    if rest:
        return None
    factor, shift = (values.repeat_interleave(repeats) for values in affine)
    scaled = rows * factor
    return _with(layer, scaled.t() if options.transpose else scaled, rows @ shift)


def _with(layer: WeightedLayer, weight: Tensor, shift: Tensor) -> WeightedLayer:
    """The layer with another weight, and a shift added to its bias."""
    bias = layer.blobs[1].double() if len(layer.blobs) > 1 else torch.zeros_like(shift)
    return with_bias(layer, weight.float().contiguous(), (bias + shift).float())


_INTO: dict[str, Callable[[WeightedLayer, Affine], WeightedLayer | None]] = {
    "Convolution": _into_convolution,
    "InnerProduct": _into_inner_product,
}
