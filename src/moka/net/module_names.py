"""Names of a net's layers as children of an `nn.Module`, and so in `state_dict()`."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from moka.free_name import free_name


def module_names(layers: Iterable[tuple[str, str]], reserved: Collection[str]) -> list[str]:
    """A name for each layer that `nn.Module` takes: the layer's own wherever that is possible.

    A dot, which separates the parts of a key, becomes "_"; a layer without a name has its type's.
    A name that an earlier layer has, or the net itself (`forward`), gets "_1", "_2", ... at its
    end.

    Args:
        layers: name and type of each, in running order.
        reserved: names that no layer can have.
    """
    found: list[str] = []
    taken = set(reserved)
    for name, layer_type in layers:
        wanted = (name or layer_type).replace(".", "_")
        found.append(free_name(wanted, taken, first=1))
        taken.add(found[-1])
    return found
