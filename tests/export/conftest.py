"""Nets with weights worth comparing."""

from __future__ import annotations

import torch

from moka.net import Net


def random_weights(net: Net, seed: int = 1) -> Net:
    """Give all parameters numbers with which values neither vanish nor grow; returns the net."""
    draw = torch.Generator().manual_seed(seed)
    for layer in net.layers:
        for name, weight in zip(layer.parameter_names, layer.weights, strict=True):
            fan_in = max(1, weight.numel() // (weight.shape[0] if weight.dim() else 1))
            with torch.no_grad():
                weight.normal_(0, fan_in**-0.5, generator=draw)
                if name in ("variance", "scale_factor"):
                    weight.abs_().add_(0.5)
                elif weight.dim() < 2:
                    weight.mul_(0.2).add_(0.1)
    return net
