"""A net as a table: its layers by Caffe's names, with types, shapes and parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, NamedTuple

from moka.layers import REGISTRY
from moka.net.place import Place
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from moka.net.net import Net

SizesOrMarks = Sequence[int | str]  # a shape; "?" where a size is unknown


class TopRow(NamedTuple):
    """A blob that a layer makes; `loss_weight` is None where the text gives none."""

    name: str
    sizes: SizesOrMarks | None = None
    loss_weight: float | None = None

    def __str__(self) -> str:
        return f"{self.name} {size_text(self.sizes)}" if self.sizes is not None else self.name

    @property
    def with_weight(self) -> str:
        """`loss scalar * 0.3`."""
        return str(self) if self.loss_weight is None else f"{self} * {self.loss_weight:g}"


class ParameterRow(NamedTuple):
    """A parameter of a layer; `factors` say how it is trained, as `lr 1 decay 0`."""

    name: str
    sizes: SizesOrMarks | None = None
    factors: str = ""

    def __str__(self) -> str:
        return f"{self.name} {size_text(self.sizes)}" if self.sizes is not None else self.name

    @property
    def with_factors(self) -> str:
        return f"{self} {self.factors}".strip()


@dataclass(frozen=True)
class LayerRow:
    """One layer.

    Attributes:
        parameters: shared ones too.
        count: how many numbers these are; None: unknown.
        phases: those that its rules name.
    """

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[TopRow, ...]
    parameters: tuple[ParameterRow, ...]
    count: int | None = None
    phases: tuple[str, ...] = ()

    def texts(self) -> tuple[str, str, str, str, str]:
        """`conv1`, `Convolution`, `conv1 64x20x24x24`, `weight 20x1x5x5, bias 20`, `520`."""
        return (
            self.name,
            self.type,
            ", ".join(map(str, self.tops)),
            ", ".join(map(str, self.parameters)),
            self.count_text,
        )

    def full_texts(self) -> tuple[str, str, str, str, str, str]:
        """The same with the phases of a layer, its bottoms, loss weights, and how its parameters
        are trained."""
        return (
            self.name,
            f"{self.type} ({', '.join(self.phases)})" if self.phases else self.type,
            ", ".join(self.bottoms),
            ", ".join(top.with_weight for top in self.tops),
            "; ".join(parameter.with_factors for parameter in self.parameters),
            self.count_text,
        )

    @property
    def count_text(self) -> str:
        return f"{self.count:,}" if self.count else ""


HEADINGS = ("layer", "type", "tops", "parameters", "count")
FULL_HEADINGS = ("layer", "type", "bottoms", "tops", "parameters", "count")


def rows(net: Net) -> list[LayerRow]:
    """A row for each layer that the net was written with, with the shapes as they are now."""
    written = (each for each in net.graph.filtered.layer if not REGISTRY[each.type].is_plumbing)
    places = (place for place in net.places if not place.node.entry.is_plumbing)
    return [_row(net, layer, place) for layer, place in zip(written, places, strict=True)]


def _row(net: Net, layer: caffe_pb2.LayerParameter, place: Place) -> LayerRow:
    made = place.layer
    shapes = zip(made.parameter_names, made.blob_shapes, strict=True)
    return LayerRow(
        layer.name,
        layer.type,
        tuple(layer.bottom),
        _tops(layer, {top: net.blobs[top].data_memory.shape for top in place.node.tops}),
        tuple(
            ParameterRow(name, shape, _factors(layer, k)) for k, (name, shape) in enumerate(shapes)
        ),
        sum(weight.numel() for weight in made.weights_unseen()),
    )


def described_rows(
    net: caffe_pb2.NetParameter, sizes: Mapping[str, SizesOrMarks]
) -> list[LayerRow]:
    """A row for each layer of a description, from the text alone.

    Args:
        net: in today's form.
        sizes: of its blobs by name, as far as they are known.
    """
    return [
        LayerRow(
            layer.name,
            layer.type,
            tuple(layer.bottom),
            _tops(layer, {top: sizes.get(top) for top in layer.top}),
            tuple(
                ParameterRow(param.name, factors=_factors(layer, k))
                for k, param in enumerate(layer.param)
            ),
            phases=tuple(
                sorted(
                    {
                        caffe_pb2.Phase.Name(rule.phase)
                        for rule in layer.include
                        if rule.HasField("phase")
                    }
                )
            ),
        )
        for layer in net.layer
    ]


def _tops(
    layer: caffe_pb2.LayerParameter, sizes: Mapping[str, SizesOrMarks | None]
) -> tuple[TopRow, ...]:
    weights = dict(enumerate(layer.loss_weight))
    return tuple(TopRow(name, sizes[name], weights.get(k)) for k, name in enumerate(sizes))


def _factors(layer: caffe_pb2.LayerParameter, index: int) -> str:
    """The factors that a layer's text gives for training a parameter; "" without any."""
    if index >= len(layer.param):
        return ""
    param = layer.param[index]
    return f"lr {param.lr_mult:g} decay {param.decay_mult:g}"


def parameter_count(net: Net) -> int:
    """Learnable numbers in the net, shared ones once."""
    return sum(net.parameter_of(blob).numel() for blob in net.learnable)


def size_text(shape: SizesOrMarks | None) -> str:
    """(64, 20, 24, 24) -> "64x20x24x24"; "scalar" if there are no axes."""
    return "x".join(map(str, shape or ())) or "scalar"


def title(net: Net) -> str:
    """`LeNet (TEST) on cpu: 431,080 parameters, 1.7 MB`."""
    return (
        f"{net.name or 'Net'} ({caffe_pb2.Phase.Name(net.graph.phase)}) on {net.device}:"
        f" {parameter_count(net):,} parameters, {net.memory.parameters / 1e6:,.1f} MB"
    )


def summary_text(net: Net) -> str:
    """A title, then a line for each layer in columns."""
    lines = [HEADINGS, *(row.texts() for row in rows(net))]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADINGS))]
    return "\n".join([title(net), *(_line(line, widths) for line in lines)])


def _line(cells: Iterable[str], widths: Sequence[int]) -> str:
    *texts, count = cells
    left = "  ".join(f"{text:{width}}" for text, width in zip(texts, widths, strict=False))
    return f"  {left}  {count:>{widths[-1]}}".rstrip()


def as_html(net: Net) -> str:
    """The summary as an HTML table, for notebooks."""
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row.texts())}</tr>"
        for row in rows(net)
    )
    return (
        f"<table><caption>{escape(title(net))}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )
