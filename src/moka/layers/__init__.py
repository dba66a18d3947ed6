"""All layer types: importing this package registers them."""

from moka.layers import (
    activation,
    arithmetic,
    conv,
    data,
    hdf5,
    linear,
    loss,
    metric,
    normalize,
    pooling,
    python,
    recurrent,
    shape,
    source,
)
from moka.layers.base import Layer
from moka.layers.registry import REGISTRY, Entry

__all__ = [
    "REGISTRY",
    "Entry",
    "Layer",
    "activation",
    "arithmetic",
    "conv",
    "data",
    "hdf5",
    "linear",
    "loss",
    "metric",
    "normalize",
    "pooling",
    "python",
    "recurrent",
    "shape",
    "source",
]
