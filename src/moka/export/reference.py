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
    with torch.no_grad(), in_float32():
        blobs = net.propagate(given, set(names))
    for layer, (state, writes) in zip(layers, states, strict=True):
        layer.writes_results = writes
        if state:
            layer.load_run_state(state)
    return {name: blobs[name].numpy() for name in names}
