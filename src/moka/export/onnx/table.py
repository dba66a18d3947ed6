"""Which function exports which layer type: the one table, filled by the modules beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeVar

from moka.errors import NetError
from moka.layers.base import Layer
from moka.layers.registry import Entry
from moka.rewrite.model import is_given

# (site, layer, *bottoms) -> the name of the top's value, or of each top's.
Exporter = Callable[..., str | Sequence[str]]
F = TypeVar("F", bound=Callable[..., Any])

_exporters: dict[type[Layer], Exporter] = {}
_refusals: dict[type[Layer], str] = {}
_left_out: set[type[Layer]] = set()
_rows_axes: dict[type[Layer], int] = {}
EXPORTERS: Mapping[type[Layer], Exporter] = MappingProxyType(_exporters)
REFUSALS: Mapping[type[Layer], str] = MappingProxyType(_refusals)


def exports(*classes: type[Layer], rows_axis: int = 0) -> Callable[[F], F]:
    """Register a function as the exporter of layers of exactly these classes.

    It is called with the `Site` of a layer, the layer, and a `Value` for each bottom.

    Args:
        rows_axis: the axis of the tops whose size depends on values, if `shapes_from_data`.
    """

    def register(function: F) -> F:
        for cls in classes:
            _check_new(cls)
            _exporters[cls] = function
            if cls.entry.shapes_from_data:
                _rows_axes[cls] = rows_axis
        return function

    return register


def refuse(reason: str, *classes: type[Layer]) -> None:
    """State why layers of these classes have no form in ONNX; `reason` ends a sentence that begins
    with "cannot be exported: "."""
    for cls in classes:
        _check_new(cls)
        _refusals[cls] = reason


def leave_out(*classes: type[Layer]) -> None:
    """State that exported nets have no use for layers of these classes."""
    for cls in classes:
        _check_new(cls)
        _left_out.add(cls)


def rows_axis(layer: Layer) -> int | None:
    """The axis of a layer's tops whose size depends on values; None: no size does."""
    return _rows_axes.get(type(layer))


def is_left_out(entry: Entry) -> bool:
    """Whether an exported net lacks layers of this type: losses, scores, writers of files."""
    return entry.is_loss or entry.make in _left_out


def has_statement(entry: Entry) -> bool:
    """Whether the table says anything about this type."""
    made = entry.make
    known = made in _exporters or made in _refusals
    return known or is_left_out(entry) or is_given(entry)


def check_exportable(entry: Entry) -> None:
    """Raise NetError, without its place, if layers of this type cannot be exported."""
    if entry.make not in _exporters and not is_given(entry):
        reason = _refusals.get(entry.make, "this layer type has no form in ONNX yet.")
        raise NetError(f"cannot be exported: {reason}")


def _check_new(cls: type[Layer]) -> None:
    if cls in _exporters or cls in _refusals or cls in _left_out:
        raise ValueError(f"{cls.__name__} is in the table twice")
