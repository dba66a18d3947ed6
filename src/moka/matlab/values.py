"""Arguments and results of a command as a line of JSON, and the numbers of arrays as they are.

A message is a head, a JSON object, and a body, the bytes of its arrays one after the other:
float32 in the order of bytes of this machine, the first axis in MATLAB's sense changing fastest.
Since a blob N x C x H x W is an array W x H x C x N there, that is the order in which Caffe keeps
it. In a head stand for

* text: a string; numbers: a number or a list of numbers;
* a single array: {"single": [its sizes]}; its numbers are in the body;
* an array of another class: {"class": "double", "size": [...]}, for no command takes one;
* a column of texts: {"texts": [...]};
* handles: {"handles": [pointers], "init_key": key}, one or a column of them;
* a struct: {"struct": {field: value}}; no result: null.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from moka.errors import UsageError
from moka.types import Array, Floats, Shape


class Handles(NamedTuple):
    """One object or a column of objects, as a program in MATLAB holds them.

    Attributes:
        pointers: the objects' numbers.
        init_key: the key of the session that gave them out.
    """

    pointers: tuple[int, ...]
    init_key: float


class Row(tuple[float, ...]):
    """A row of numbers."""


class Column(tuple[float, ...]):
    """A column of numbers."""


class Texts(tuple[str, ...]):
    """A column of texts."""


class ForeignArray(NamedTuple):
    """An array that is not of class single, of which only class and size came along."""

    class_name: str
    size: Shape

    def __str__(self) -> str:
        return f"an array of class {self.class_name}"


PlainValue = None | str | float | Row | Column | Texts | Handles | Floats | Mapping[str, Any]


def read_arguments(written: Sequence[Any], body: memoryview) -> list[Any]:
    """The arguments of a command.

    Args:
        written: as in a head.
        body: the numbers of the single arrays among them; the arrays are views of it.
    """
    arguments = []
    start = 0
    for argument in written:
        if isinstance(argument, dict) and "single" in argument:
            size = sizes(argument["single"])
            end = start + 4 * prod(size)
            numbers = np.frombuffer(body[start:end], np.float32)
            arguments.append(numbers.reshape(size[::-1]))
            start = end
        else:
            arguments.append(_read(argument))
    return arguments


def body_size(written: Sequence[Any]) -> int:
    """How many bytes the arrays among written arguments have."""
    return sum(
        4 * prod(sizes(argument["single"]))
        for argument in written
        if isinstance(argument, dict) and "single" in argument
    )


def sizes(written: Any) -> Shape:
    """Whole numbers, of which a single one may stand without a list."""
    return tuple(map(int, written if isinstance(written, list) else [written]))


def _read(argument: Any) -> Any:
    if not isinstance(argument, dict):
        if isinstance(argument, list):
            return Row(map(float, argument))
        return float(argument) if isinstance(argument, (int, float)) else argument
    if "handles" in argument:
        return Handles(sizes(argument["handles"]), float(argument["init_key"]))
    if "texts" in argument:
        texts = argument["texts"]
        return Texts([texts] if isinstance(texts, str) else texts)
    if "class" in argument:
        return ForeignArray(argument["class"], sizes(argument["size"]))
    raise UsageError(f"no argument is written as {argument}.")


def write_result(value: PlainValue) -> tuple[Any, list[Array]]:
    """A result as it stands in a head, and the arrays of the body."""
    arrays: list[Array] = []
    return _write(value, arrays), arrays


def _write(value: PlainValue, arrays: list[Array]) -> Any:
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value, np.float32))
        return {"single": list(matlab_size(value.shape))}
    if isinstance(value, Handles):
        return {"handles": list(value.pointers), "init_key": value.init_key}
    if isinstance(value, Texts):
        return {"texts": list(value)}
    if isinstance(value, (Row, Column)):
        return {"row" if isinstance(value, Row) else "column": list(value)}
    if isinstance(value, Mapping):
        return {"struct": {name: _write(field, arrays) for name, field in value.items()}}
    return value


def matlab_size(shape: Shape) -> Iterator[int]:
    """The size in MATLAB of an array of this shape: reversed, and of at least two axes."""
    yield from reversed(shape)
    yield from (1,) * (2 - len(shape))
