"""The learned arrays of a layer, in the shapes that OpenCV has them in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from moka.layers.base import Layer
from moka.opencv.errors import OpenCVError
from moka.opencv.inputs import as_blob
from moka.types import Floats


def arrays_of(layer: Layer) -> tuple[Floats, ...]:
    """Copies. An array with one axis is a column, but the bias of an InnerProduct is a row."""
    return tuple(
        _in_two_axes(blob.detach().cpu().numpy(), as_row=layer.entry.type == "InnerProduct")
        for blob in layer.blobs
    )


def _in_two_axes(array: Floats, *, as_row: bool) -> Floats:
    copied = np.array(array, order="C")
    if copied.ndim >= 2:
        return copied
    return copied.reshape(1, -1) if as_row else copied.reshape(-1, 1)


def set_array(layer: Layer, name: str, index: int, array: Any) -> None:
    """Set one learned array; any shape with the same count of numbers fits.

    Raises:
        OpenCVError: there is no such array, or it has another size.
    """
    blobs = layer.blobs
    if not 0 <= index < len(blobs):
        raise OpenCVError(
            f"there is no array {index}: the layer has {len(blobs)} learned arrays.",
            layer=name,
            layer_type=layer.entry.type,
        )
    values = as_blob(array)
    if values.size != blobs[index].numel():
        raise OpenCVError(
            f"array {index} has shape {tuple(blobs[index].shape)}, got {np.shape(array)}.",
            layer=name,
            layer_type=layer.entry.type,
        )
    with torch.no_grad():
        blobs[index].copy_(torch.from_numpy(values).view(blobs[index].shape))


def set_arrays(layer: Layer, name: str, arrays: Sequence[Any]) -> None:
    """Set the first learned arrays of a layer; the others become zero. Raises OpenCVError."""
    for index, array in enumerate(arrays):
        set_array(layer, name, index, array)
    with torch.no_grad():
        for blob in layer.blobs[len(arrays) :]:
            blob.zero_()
