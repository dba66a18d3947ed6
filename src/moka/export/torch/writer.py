"""The lines and tensors of a PyTorch module while it grows, layer by layer."""

from __future__ import annotations

import inspect
import keyword
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from moka.free_name import free_name
from moka.layers.base import Layer
from moka.types import Shape

RESERVED = frozenset(("self", "torch", "nn", "F", "Tensor", "Path", "math", *dir(torch.nn.Module)))
WIDTH = 100


class Names:
    """Python names for names that Caffe allows: each its own, as near as possible."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        """The Python name; the same each time."""
        if name not in self._found:
            wanted = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "x"
            if wanted[0].isdigit():
                wanted = f"x{wanted}"
            if keyword.iskeyword(wanted) or wanted in RESERVED:
                wanted = f"{wanted}_"
            self._found[name] = free_name(wanted, self._found.values())
        return self._found[name]


class Writer:
    """Collects what a module's source says.

    Attributes:
        declared: the lines of `__init__`.
        computed: the lines of `forward`.
        state: the values of parameters and buffers, by their keys in `state_dict()`.
        functions: the source of functions that `forward` calls, by name.
    """

    def __init__(self) -> None:
        self.declared: list[str] = []
        self.computed: list[str] = []
        self.state: dict[str, Tensor] = {}
        self.functions: dict[str, str] = {}
        self.members = Names()
        self._variables = Names()
        self._aliases: dict[str, str] = {}
        self._parameters: dict[int, str] = {}

    def variable(self, blob: str) -> str:
        """The variable that holds a blob."""
        return self._aliases.get(blob) or self._variables[blob]

    def assign(self, blob: str, text: str) -> None:
        """Add the line that computes a blob; one that is another's only gets its variable."""
        if text.isidentifier():
            self._aliases[blob] = text
            return
        self._aliases.pop(blob, None)
        self.computed += assignment(self._variables[blob], text)

    def assign_all(self, blobs: Sequence[str], text: str) -> None:
        """Add the line that computes several blobs."""
        self.computed += assignment(", ".join(self._variables[b] for b in blobs), text)

    def share(self, parameter: Tensor, key: str) -> str | None:
        """The key under which a parameter is known already, if it is shared; else note its key."""
        known = self._parameters.setdefault(id(parameter), key)
        return known if known != key else None


class Bottom:
    """A bottom of a layer: the variable that holds it, as text, and its shape."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.shape = shape

    def __str__(self) -> str:
        return self.name


class ModuleSite:
    """Where one layer is written.

    Attributes:
        layer: the layer.
        bottoms: what it reads.
        tops: the shapes of its tops.
    """

    def __init__(
        self,
        writer: Writer,
        name: str,
        layer: Layer,
        bottoms: Sequence[Bottom],
        tops: Sequence[Shape],
    ) -> None:
        self._writer = writer
        self._name = name
        self.layer = layer
        self.bottoms = list(bottoms)
        self.tops = list(tops)

    def option(self, name: str) -> Any:
        """An option of the layer, as the layer has read it."""
        return getattr(self.layer, name)

    def module(self, constructor: str, *arguments: object, **named: object) -> str:
        """Declare a module of `nn`; returns how `forward` calls it. Its parameters are the
        layer's."""
        member = self._writer.members[self._name]
        texts = [text_of(a) for a in arguments]
        texts += [f"{key}={text_of(value)}" for key, value in named.items() if value is not None]
        self._writer.declared += call_lines(f"self.{member} = nn.{constructor}", texts)
        return f"self.{member}"

    def function(self, function: Callable[..., object]) -> None:
        """Copy a function of `plain.py` into the file; needed again, it is copied once."""
        self._writer.functions[function.__name__] = inspect.getsource(function)

    def hold(self, key: str, values: Tensor, source: Tensor | None = None) -> None:
        """Keep values of the module under this key, such as "weight".

        Args:
            source: the parameter itself; layers that share it go on sharing.
        """
        member = self._writer.members[self._name]
        name = f"{member}.{key}"
        self._writer.state[name] = values.detach().clone().contiguous()
        if source is not None and (known := self._writer.share(source, name)):
            self._writer.declared.append(f"self.{name} = self.{known}")

    def parameter(self, key: str, values: Tensor, source: Tensor) -> str:
        """Declare a parameter of the net itself; returns how `forward` names it."""
        name = self._writer.members[f"{self._name} {key}"]
        shape = tuple(values.shape)
        known = self._writer.share(source, name)
        made = f"self.{known}" if known else f"nn.Parameter(torch.zeros({shape}))"
        self._writer.declared.append(f"self.{name} = {made}")
        self._writer.state[name] = values.detach().clone().contiguous()
        return f"self.{name}"

    def buffer(self, key: str, values: Tensor) -> str:
        """Declare constant values; returns how `forward` names them."""
        name = self._writer.members[f"{self._name} {key}"]
        kind = "" if values.dtype == torch.float32 else f", dtype={values.dtype}"
        zeros = f"torch.zeros({tuple(values.shape)}{kind})"
        self._writer.declared.append(f'self.register_buffer("{name}", {zeros})')
        self._writer.state[name] = values.detach().clone().contiguous()
        return f"self.{name}"


def text_of(value: object) -> str:
    """A value as Python source; numbers without the noise of float32."""
    if isinstance(value, float):
        return number(value)
    if isinstance(value, tuple | list):
        inner = ", ".join(text_of(v) for v in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    return str(value)


def number(value: float) -> str:
    """A number as Python source; a float32 as the shortest decimal that means it."""
    if value in (float("inf"), float("-inf")):
        return f'float("{value}")'
    single = np.float32(value)
    return repr(float(str(single))) if single == value else repr(value)


def call_lines(head: str, arguments: Iterable[str]) -> list[str]:
    """`head(arguments)` as lines no longer than WIDTH, at an indent of 8."""
    texts = list(arguments)
    line = f"{head}({', '.join(texts)})"
    if len(line) + 8 <= WIDTH:
        return [line]
    return [f"{head}(", *(f"    {text}," for text in texts), ")"]


def assignment(target: str, text: str) -> list[str]:
    """`target = text` as lines no longer than WIDTH where that is possible."""
    line = f"{target} = {text}"
    if len(line) + 8 <= WIDTH:
        return [line]
    inner = textwrap.wrap(text, WIDTH - 12, break_long_words=False, break_on_hyphens=False)
    return [f"{target} = (", *(f"    {part}" for part in inner), ")"]


def one_or_all(values: Sequence[int]) -> int | tuple[int, ...]:
    """One number if all are equal."""
    return values[0] if len(set(values)) == 1 else tuple(values)
