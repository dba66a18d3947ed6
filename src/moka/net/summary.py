"""A net as a table: its layers by Caffe's names, with types, shapes and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from moka.schema import caffe_pb2
from moka.types import Shape

if TYPE_CHECKING:
    from moka.net.net import Net


@dataclass(frozen=True)
class Row:
    """One layer.

    Attributes:
        tops: names of its tops, with their shapes.
        parameters: names and shapes of its parameters, shared ones too.
        count: how many numbers these are.
    """

    name: str
    type: str
    tops: tuple[tuple[str, Shape], ...]
    parameters: tuple[tuple[str, Shape], ...]
    count: int

    def texts(self) -> tuple[str, str, str, str, str]:
        """`conv1`, `Convolution`, `conv1 64x20x24x24`, `weight 20x1x5x5, bias 20`, `520`."""
        count = f"{self.count:,}" if self.count else ""
        return self.name, self.type, _listed(self.tops), _listed(self.parameters), count


HEADINGS = ("layer", "type", "tops", "parameters", "count")


def rows(net: Net) -> list[Row]:
    """A row for each layer that the net was written with, with the shapes as they are now."""
    return [
        Row(
            place.node.name,
            place.node.type,
            tuple((top, net.blobs[top].data_memory.shape) for top in place.node.tops),
            tuple(zip(place.layer.parameter_names, place.layer.blob_shapes, strict=True)),
            sum(weight.numel() for weight in place.layer.weights),
        )
        for place in net.places
        if not place.node.entry.is_plumbing
    ]


def parameter_count(net: Net) -> int:
    """Learnable numbers in the net, shared ones once."""
    return sum(net.parameter_of(blob).numel() for blob in net.learnable)


def _listed(arrays: Iterable[tuple[str, Shape]]) -> str:
    return ", ".join(f"{name} {axes_text(shape)}" for name, shape in arrays)


def axes_text(shape: Shape) -> str:
    """(64, 20, 24, 24) -> "64x20x24x24"; "scalar" if there are no axes."""
    return "x".join(map(str, shape)) or "scalar"


def title(net: Net) -> str:
    """`LeNet (TEST) on cpu: 431,080 parameters, 1.7 MB`."""
    return (
        f"{net.name or 'Net'} ({caffe_pb2.Phase.Name(net.graph.phase)}) on {net.device}:"
        f" {parameter_count(net):,} parameters, {net.memory.parameters / 1e6:,.1f} MB"
    )


def as_text(net: Net) -> str:
    """A title, then a line for each layer in columns."""
    lines = [HEADINGS, *(row.texts() for row in rows(net))]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADINGS))]
    return "\n".join([title(net), *(_line(line, widths) for line in lines)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    *texts, count = cells
    left = "  ".join(f"{text:{width}}" for text, width in zip(texts, widths, strict=False))
    return f"  {left}  {count:>{widths[-1]}}".rstrip()


def as_html(net: Net) -> str:
    """The same as a table for notebooks."""
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row.texts())}</tr>"
        for row in rows(net)
    )
    return (
        f"<table><caption>{escape(title(net))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
