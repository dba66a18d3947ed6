"""The layer in which FlowNet's nets subtract the mean."""

from __future__ import annotations

import torch

from moka.export.onnx.builder import Site, Value
from moka.export.onnx.grid import multiplied
from moka.export.onnx.table import exports
from moka.layers.flow.augmentation import DataAugmentation
from moka.layers.grid import Weights


@exports(DataAugmentation, fixed_from=1)
def export_data_augmentation(site: Site, layer: DataAugmentation, x: Value) -> str:
    y, size = x.name, site.tops[0][2:]
    if x.dims[2:] != size:
        cuts = (_center(n, m) for n, m in zip(x.dims[2:], size, strict=True))
        y = multiplied(site, y, *cuts)
    mean = layer.mean_of(size)
    return y if mean is None else site.add("Sub", y, site.constant(mean, "mean"))


def _center(size: int, out: int) -> Weights:
    """Weights (out, size) of the pixels in the middle; the mean of two if these lie between."""
    at = (size - out) / 2 + torch.arange(out)
    return (1 - (at[:, None] - torch.arange(size)).abs()).clamp_min(0)
