"""Which function writes which layer type: the one table, filled by the modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from moka.export.torch.writer import ModuleSite

# Returns an expression for the top, or one for each top.
LayerWriter = Callable[[ModuleSite], str | Sequence[str]]

_forms: dict[str, LayerWriter] = {}
LAYER_WRITERS: Mapping[str, LayerWriter] = MappingProxyType(_forms)


def writes(*types: str) -> Callable[[LayerWriter], LayerWriter]:
    """Register a function for layer types."""

    def register(function: LayerWriter) -> LayerWriter:
        for name in types:
            if name in _forms:
                raise ValueError(f"{name} is in the table twice")
            _forms[name] = function
        return function

    return register
