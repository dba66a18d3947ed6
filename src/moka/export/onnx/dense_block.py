"""A whole block of densely connected convolutions, node by node."""

from __future__ import annotations

import torch

from moka.export.onnx.batch_norm import normalized
from moka.export.onnx.builder import Site, Value
from moka.export.onnx.table import exports
from moka.layers.dense_block import EPS, DenseBlock


@exports(DenseBlock)
def export_dense_block(site: Site, layer: DenseBlock, x: Value) -> str:
    """Normalization, ReLU and convolution, once or twice a step; the step's input comes first."""
    ones = layer.blobs[-1].detach()
    factor = torch.where(ones == 0, 0.0, 1 / ones)
    joined = x.name
    for step in layer.convolutions():
        y = joined
        for each in step:
            statistics = each.mean * factor, each.variance * factor
            y = site.add("Relu", normalized(site, y, (each.scale, each.bias, *statistics), EPS))
            side = each.filter.shape[2]
            window = {"kernel_shape": [side, side], "pads": [side // 2] * 4}
            y = site.add("Conv", y, site.constant(each.filter.detach(), "filter"), **window)
        joined = site.add("Concat", joined, y, axis=1)
    return joined
