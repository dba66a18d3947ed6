"""What the parameters and the blobs of a net hold: their spread, and units that never speak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from moka.net import Net
from moka.types import Array, Floats

BINS = 40
MOST_PLANES = 64


@dataclass(frozen=True)
class Spread:
    """The values of an array.

    Attributes:
        counts: of a histogram between `least` and `most`, in equal bins.
        zeros: the share of exact zeros.
    """

    shape: tuple[int, ...]
    least: float
    most: float
    mean: float
    deviation: float
    zeros: float
    counts: list[int]


@dataclass(frozen=True)
class BlobActivity:
    """What a layer made of some images.

    Attributes:
        layer: the last one that wrote the blob.
        dead: numbers of channels that are zero everywhere, for all images.
        planes: the first channels of the first image, (channels, H, W); None: it is no image.
    """

    blob: str
    layer: str
    type: str
    spread: Spread
    channels: int
    dead: list[int]
    planes: Floats | None


def spread_of(values: Array) -> Spread:
    """The spread of an array that holds at least one number."""
    flat = np.asarray(values, np.float32).ravel()
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        finite = np.zeros(1, np.float32)
    counts, _ = np.histogram(finite, BINS)
    return Spread(
        tuple(values.shape),
        float(finite.min()),
        float(finite.max()),
        float(finite.mean(dtype=np.float64)),
        float(finite.std(dtype=np.float64)),
        float((flat == 0).mean()),
        counts.tolist(),
    )


def parameter_spreads(net: Net) -> list[tuple[str, str, str, Spread]]:
    """(layer, type, parameter, spread) of all parameters, in the order of the layers."""
    return [
        (place.node.name, place.node.type, name, spread_of(weight.detach().cpu().numpy()))
        for place in net.places
        for name, weight in zip(place.layer.parameter_names, place.layer.weights, strict=True)
        if weight.numel()
    ]


def first_filters(net: Net) -> Floats | None:
    """The filters (N, C, H, W) of the first layer whose weights are larger than one pixel; None:
    there is none."""
    for place in net.places:
        weights = place.layer.weights
        if len(weights) and weights[0].ndim == 4 and weights[0].shape[2] * weights[0].shape[3] > 1:
            return weights[0].detach().cpu().numpy()
    return None


def activity(net: Net, images: Floats) -> list[BlobActivity]:
    """What each layer makes of images (N, C, H, W), layer by layer; in-place layers change the
    blob of the layer before, so that blob is told as it is in the end."""
    name = net.graph.inputs[0]
    with torch.no_grad():
        blobs = net.propagate({name: torch.from_numpy(images)})
    writers = {
        top: place.node
        for place in net.places
        if not place.node.entry.is_plumbing
        for top in place.node.tops
    }
    made = []
    for blob, node in writers.items():
        values = blobs[blob].cpu().numpy()
        if not values.size:
            continue
        by_channel = values.reshape(*values.shape[:2], -1) if values.ndim > 1 else None
        dead: list[int] = []
        channels = 0
        if by_channel is not None and blob != name:
            channels = by_channel.shape[1]
            dead = np.flatnonzero(~by_channel.any((0, 2))).tolist()
        planes = values[0, :MOST_PLANES] if values.ndim == 4 and values[0, 0].size > 1 else None
        made.append(
            BlobActivity(blob, node.name, node.type, spread_of(values), channels, dead, planes)
        )
    return made
