"""What a net computes, as the measure of a file that was made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from moka.net import Net
from moka.net.half import in_float32
from moka.types import Array


def reference(net: Net, inputs: Mapping[str, Array], names: Sequence[str]) -> dict[str, Array]:
    """Blobs that Moka computes, by name. What layers hand from pass to pass stays as it was.

    Args:
        inputs: values of the inputs; of those that are missing, zeros.
    """
    given = {name: torch.zeros(shape) for name, shape in net.input_shapes.items()}
    for name, values in inputs.items():
        given[name] = torch.from_numpy(np.asarray(values, np.float32))
    states = [place.layer.run_state() for place in net.places]
    with torch.no_grad(), in_float32():
        blobs = net.propagate(given, set(names))
    for place, state in zip(net.places, states, strict=True):
        if state:
            place.layer.load_run_state(state)
    return {name: blobs[name].numpy() for name in names}
