"""Leave out layers, such as losses, that only training and testing need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from moka.errors import NetError
from moka.layers import REGISTRY
from moka.layers.registry import Entry
from moka.rewrite.model import Model


def drop_layers(model: Model, unwanted: Callable[[Entry], bool]) -> Model:
    """The model without the layers whose types are unwanted, and without sources that only they
    read.

    Raises:
        NetError: another layer reads what an unwanted one makes.
    """
    readers = model.readers()
    gone = {i for i, layer in enumerate(model.layers) if unwanted(REGISTRY[layer.config.type])}
    for i in sorted(gone):
        config = model.layers[i].config
        for top, used in zip(config.top, readers[i], strict=True):
            if left := [j for j in used if j not in gone]:
                raise NetError(
                    f"is left out of an exported net, but layer"
                    f' "{model.layers[left[0]].config.name}" reads its top {top}.',
                    file=model.file,
                    layer=config.name,
                    layer_type=config.type,
                )
    for i, layer in enumerate(model.layers):
        used_by = {j for used in readers[i] for j in used}
        if not layer.config.bottom and used_by and used_by <= gone:
            gone.add(i)
    kept = tuple(layer for i, layer in enumerate(model.layers) if i not in gone)
    return replace(model, layers=kept)
