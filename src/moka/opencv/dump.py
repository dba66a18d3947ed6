"""A net as a graph in Graphviz's language."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moka.opencv.layer import INPUT_LAYER
from moka.opencv.names import NamedLayer


def as_dot(layers: Sequence[NamedLayer]) -> str:
    """A box for each layer with its name and type, an arrow for each array that it takes."""
    return "\n".join(["digraph G {", *_lines(layers), "}", ""])


def _lines(layers: Sequence[NamedLayer]) -> Iterator[str]:
    for layer in layers:
        name = _quoted(layer.name)
        yield f'\t"{name}" [label="{name}\\n{layer.type}" shape=box]'
    for layer in layers:
        for position in layer.bottoms:
            source = INPUT_LAYER if position < 0 else layers[position].name
            yield f'\t"{_quoted(source)}" -> "{_quoted(layer.name)}"'


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')
