"""The outputs of a net for any number of prepared images."""

from __future__ import annotations

import numpy as np
import torch

from moka.errors import NetError
from moka.net import Net
from moka.types import Floats, Shape


def input_shape(net: Net) -> Shape:
    """The shape (N, C, H, W) of a net's first input. Raises NetError if it has no input."""
    if not net.graph.inputs:
        raise NetError(
            "the net reads its own data, but images are to be given to it.",
            file=net.graph.file,
            advice="Put an Input layer in the place of its data layer (a deploy.prototxt).",
        )
    return net.input_shapes[net.graph.inputs[0]]


def class_count(net: Net) -> int:
    """How many numbers the first output holds for each image."""
    return int(np.prod(net.blobs[net.graph.outputs[0]].shape[1:]))


def score(net: Net, images: Floats) -> Floats:
    """The first output of a net with one input, for prepared images.

    The net runs on batches of its input's own size; the last one is filled up with zeros.

    Args:
        images: (N, C, H, W) float32.

    Returns:
        (N, ...) float32.

    Raises:
        NetError: the net cannot take the images, or its output is not one row for each of them.
    """
    name, output = net.graph.inputs[0], net.graph.outputs[0]
    size = input_shape(net)[0]
    rows = []
    for first in range(0, len(images), size):
        part = images[first : first + size]
        batch = torch.zeros((size, *part.shape[1:]))
        batch[: len(part)] = torch.from_numpy(part)
        with torch.no_grad():
            values = net(**{name: batch})[output]
        if values.shape[:1] != (size,):
            raise NetError(
                f'output "{output}" has shape {tuple(values.shape)}, not a row for each of the'
                f" {size} images.",
                file=net.graph.file,
            )
        rows.append(values[: len(part)].cpu().numpy())
    return np.concatenate(rows)
