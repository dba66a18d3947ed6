"""What a net computes, as the measure of a file that was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from moka.net import Net
from moka.net.half import in_float32
from moka.types import Array


def reference(net: Net, inputs: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Blobs that Moka computes, by name. What layers hand from pass to pass stays as it was, and no
    files of detections are written.

    Args:
        inputs: values of the inputs; of those that are missing, zeros.
    """
    given = {name: torch.zeros(shape) for name, shape in net.input_shapes.items()}
    for name, values in inputs.items():
        given[name] = torch.from_numpy(np.asarray(values, np.float32))
    layers = [place.layer for place in net.places]
    states = [(layer.run_state(), layer.writes_results) for layer in layers]
    net.write_no_results()
    try:
        with torch.no_grad(), in_float32():
            blobs = net.propagate(given, set(names))
    finally:
        for layer, (state, writes) in zip(layers, states, strict=True):
            layer.writes_results = writes
            if state:
                layer.load_run_state(state)
    return {name: blobs[name].detach().numpy() for name in names}


def read_as_indices(net: Net) -> set[str]:
    """Inputs that a layer reads without a gradient."""
    first: dict[str, str] = {}  # the blob of which another is only a second name
    found: set[str] = set()
    for place in net.places:
        node = place.node
        names = [first.get(name, name) for name in node.bottoms]
        if place.layer.entry.is_plumbing:
            first.update(dict.fromkeys(node.tops, names[0]))
        found.update(names[k] for k in node.fixed_bottoms if k < len(names))
    return found
