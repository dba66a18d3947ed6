"""Compares a file of weights with a net: layers that get parameters, get none, are left over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from moka.hdf5 import is_hdf5
from moka.net import Net
from moka.types import PathLike
from moka.weights.load import layers_without, plan_copies, sharers
from moka.weights.stored import StoredLayer


class Fit(NamedTuple):
    """Names of layers with parameters, each in the order of the net or of the file.

    Attributes:
        matching: get their parameters from the file.
        missing: are in the net alone.
        left_over: are in the file alone.
    """

    matching: tuple[str, ...]
    missing: tuple[str, ...]
    left_over: tuple[str, ...]


def fit(net: Net, stored: Sequence[StoredLayer], file: PathLike) -> Fit:
    """Compare a net with what a file holds; only shapes are looked at.

    Args:
        stored: from `moka.weights.shapes.stored_shapes(file)`.

    Raises:
        WeightsError: layers whose parameters differ in number or shape.
    """
    plan = plan_copies(net, stored, file, sharers(net) if is_hdf5(file) else ())
    missing = layers_without(net, plan)
    names = [node.name for node in net.graph.nodes]
    given = dict.fromkeys(names[copy.layer] for copy in plan)
    left_over = [layer.name for layer in stored if layer.blobs and layer.name not in names]
    return Fit(tuple(given), tuple(missing), tuple(left_over))
