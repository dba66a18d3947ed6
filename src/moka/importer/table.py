"""Which function imports which operator: the one table, filled by the modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from moka.importer.builder import NodeSite

Importer = Callable[[NodeSite], None]

_importers: dict[str, Importer] = {}
_refusals: dict[str, str] = {}
IMPORTERS: Mapping[str, Importer] = MappingProxyType(_importers)
OPERATOR_REFUSALS: Mapping[str, str] = MappingProxyType(_refusals)


def imports(*operators: str) -> Callable[[Importer], Importer]:
    """Register a function as the importer of operators. It adds layers and gives each output of
    the node its blob."""

    def register(function: Importer) -> Importer:
        for name in operators:
            if name in _importers or name in _refusals:
                raise ValueError(f"{name} is in the table twice")
            _importers[name] = function
        return function

    return register


def refuse_operators(reason: str, *operators: str) -> None:
    """State why operators have no form in Caffe; the reason is a sentence."""
    for name in operators:
        if name in _importers or name in _refusals:
            raise ValueError(f"{name} is in the table twice")
        _refusals[name] = reason
