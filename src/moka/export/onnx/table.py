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
_fixed_from: dict[type[Layer], int] = {}
EXPORTERS: Mapping[type[Layer], Exporter] = MappingProxyType(_exporters)
REFUSALS: Mapping[type[Layer], str] = MappingProxyType(_refusals)


def exports(
    *classes: type[Layer],
    rows_axis: int | None = None,
    keeps_rows: bool = False,
    fixed_from: int | None = None,
) -> Callable[[F], F]:
    """Register a function as the exporter of layers of exactly these classes.

    It is called with the `Site` of a layer, the layer, and a `Value` for each bottom.

    Args:
        rows_axis: the axis of the tops whose size depends on values; by default 0 for a type that
            says `shapes_from_data`, and else none.
        keeps_rows: in testing the tops have the rows of the bottoms, whatever the type says.
        fixed_from: the first axis of the bottoms from which on sizes must be known: 1 where only
            the batch may be free.
    """

    def register(function: F) -> F:
        for cls in classes:
            _check_new(cls)
            _exporters[cls] = function
            if fixed_from is not None:
                _fixed_from[cls] = fixed_from
            chooses = cls.entry.shapes_from_data and not keeps_rows
            if chooses or rows_axis is not None:
                _rows_axes[cls] = rows_axis or 0
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


def sizes_to_know(layer: Layer, dims: Sequence[int]) -> Sequence[int]:
    """Those of a bottom's dims that must be sizes."""
    first = _fixed_from.get(type(layer))
    return () if first is None else dims[first:]


def is_left_out(entry: Entry) -> bool:
    """Whether an exported net lacks layers of this type: losses, scores, writers of files."""
    return entry.is_loss or entry.make in _left_out


def has_statement(entry: Entry) -> bool:
    """Whether the table says anything about this type."""
    made = entry.make
    known = made in _exporters or made in _refusals
    return known or is_left_out(entry) or is_given(entry)


def check_exportable(layer: Layer) -> None:
    """Raise NetError, without its place, if a layer of this class cannot be exported.

    A class that stands in for the user's code has an exporter of its own, or the refusal of its
    type.
    """
    cls, entry = type(layer), layer.entry
    if cls not in _exporters and not is_given(entry):
        usual = "this layer type has no form in ONNX yet."
        reason = _refusals.get(cls, _refusals.get(entry.make, usual))
        raise NetError(f"cannot be exported: {reason}")


def _check_new(cls: type[Layer]) -> None:
    if cls in _exporters or cls in _refusals or cls in _left_out:
        raise ValueError(f"{cls.__name__} is in the table twice")
