"""What a command of the gateway takes: kinds of arguments, and the check of those that came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from moka.blob import Blob
from moka.engine.layerwise import Layerwise
from moka.errors import UsageError
from moka.matlab.session import HandleTable, NumberedLayer
from moka.matlab.values import ForeignArray, Handles, PlainValue, Row, Texts
from moka.solver.solver import Solver


class GatewayCommand(NamedTuple):
    """What the gateway can be asked.

    Attributes:
        takes: what its arguments are: "net", "solver", "layer" or "blob" for a handle, "text",
            "number", "row", "texts" or "single".
        run: called with the session and the arguments.
    """

    takes: tuple[str, ...]
    run: Callable[..., PlainValue]


_OBJECTS: dict[str, Any] = {
    "net": Layerwise,
    "solver": Solver,
    "layer": NumberedLayer,
    "blob": Blob,
}
_PLAIN: dict[str, type] = {"text": str, "number": float, "texts": Texts, "single": np.ndarray}


def take_argument(session: HandleTable, name: str, kind: str, argument: Any) -> Any:
    """An argument as a command's function takes it."""
    if kind in _OBJECTS and isinstance(argument, Handles):
        return session.find(argument, _OBJECTS[kind])
    if kind == "row" and isinstance(argument, (Row, float)):
        return Row(argument if isinstance(argument, Row) else [argument])
    if kind in _PLAIN and isinstance(argument, _PLAIN[kind]):
        return argument
    found = argument if isinstance(argument, ForeignArray) else _KINDS.get(type(argument), "?")
    wanted = f"a {kind} handle" if kind in _OBJECTS else _DESCRIBED[kind]
    raise UsageError(f"{name} takes {wanted} here, got {found}.")


_DESCRIBED = {
    "text": "a text",
    "number": "a number",
    "row": "a row of numbers",
    "texts": "a cell array of texts",
    "single": "an array of class single",
}
_KINDS: dict[type, str] = {
    str: "a text",
    float: "a number",
    Row: "a row of numbers",
    Texts: "a cell array of texts",
    np.ndarray: "an array of class single",
    Handles: "a handle",
}
