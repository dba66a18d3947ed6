"""A net as a drawing: its layers and blobs as nodes, what they read and write as edges.

Plain data, from which `dot_text` makes Graphviz's language and `net_picture` a picture. The labels
and colours are those of BVLC Caffe's draw.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moka.errors import NetError
from moka.layers import REGISTRY
from moka.layers.options import field_value
from moka.layers.registry import DrawStyle
from moka.schema import caffe_pb2
from moka.schema.upgrade import net_needs_upgrade, upgrade_net

RANKDIRS = ("LR", "RL", "TB", "BT")  # where the data flows: left to right, ...
OTHER = DrawStyle().color
IN_PLACE = "#90EE90"
BLOB = "#E0E0E0"


@dataclass(frozen=True)
class Node:
    """A layer or a blob.

    Attributes:
        lines: of its label.
        colour: of its face, #RRGGBB.
        is_blob: blobs are octagons, layers boxes.
    """

    lines: tuple[str, ...]
    colour: str
    is_blob: bool = False


@dataclass(frozen=True)
class Edge:
    """From a node to another, by their keys, with a label that may be empty."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Drawing:
    """A net's nodes by key, in the order of the net, and its edges."""

    name: str
    rankdir: str
    nodes: dict[str, Node]
    edges: tuple[Edge, ...]


def net_drawing(
    net: caffe_pb2.NetParameter,
    rankdir: str = "LR",
    *,
    label_edges: bool = True,
    phase: int | None = None,
    display_lrm: bool = False,
) -> Drawing:
    """The drawing of a net, in today's form or an older one.

    Args:
        rankdir: where the data flows: LR, RL, TB or BT; in the last two labels have one line.
        label_edges: write the number of outputs, or the size of a batch, on edges.
        phase: only the layers of this one; None: all.
        display_lrm: write the learning rates' multipliers into labels.

    Raises:
        NetError: another rankdir; a layer with both include and exclude rules.
    """
    if rankdir not in RANKDIRS:
        raise NetError(f"rankdir is one of {', '.join(RANKDIRS)}, got '{rankdir}'.")
    if net_needs_upgrade(net):
        net = upgrade_net(net)
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}
    for layer in net.layer:
        if phase is not None and not in_phase(layer, phase):
            continue
        key = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == 1 and list(layer.bottom) == list(layer.top)
        colour = IN_PLACE if in_place else layer_colour(layer.type)
        lines = layer_lines(layer, display_lrm=display_lrm)
        nodes[key] = Node((" ".join(lines),) if rankdir in ("TB", "BT") else lines, colour)
        for blob in (*layer.bottom, *layer.top):
            nodes.setdefault(f"{blob}_blob", Node((blob,), BLOB, is_blob=True))
        edges |= dict.fromkeys(Edge(f"{blob}_blob", key) for blob in layer.bottom)
        label = edge_label(layer) if label_edges else ""
        edges |= dict.fromkeys(Edge(key, f"{blob}_blob", label) for blob in layer.top)
    return Drawing(net.name or "Net", rankdir, nodes, tuple(edges))


def in_phase(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    """Whether a layer's rules let it be in the net of a phase, whatever the stages and the level.

    Raises:
        NetError: it has both include and exclude rules.
    """
    if layer.include and layer.exclude:
        raise NetError(
            "give either include or exclude rules, not both.",
            layer=layer.name,
            layer_type=layer.type,
        )
    if layer.include:
        return any(not rule.HasField("phase") or rule.phase == phase for rule in layer.include)
    return not any(
        [field.name for field, _ in rule.ListFields()] == ["phase"] and rule.phase == phase
        for rule in layer.exclude
    )


def layer_colour(type_name: str) -> str:
    """The colour of a type of layer, #RRGGBB."""
    return style_of(type_name).color


def style_of(type_name: str) -> DrawStyle:
    """How a type of layer is drawn, one that is not known like most."""
    return REGISTRY[type_name].drawn if type_name in REGISTRY else DrawStyle()


def _filled_in(text: str, layer: caffe_pb2.LayerParameter) -> str:
    """A text of a DrawStyle with the values of the layer's options."""
    if not text:
        return ""
    message = _own_message(layer)
    names = re.findall(r"{(\w+)}", text)
    return text.format(**{name: field_value(message, name) or 0 for name in names})


def _own_message(layer: caffe_pb2.LayerParameter) -> Any:
    name = REGISTRY[layer.type].message
    return getattr(layer, name) if name else layer


def edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """What stands on the edges to a layer's tops: how many outputs, or images in a batch."""
    return _filled_in(style_of(layer.type).edge, layer)


def layer_lines(layer: caffe_pb2.LayerParameter, *, display_lrm: bool = False) -> tuple[str, ...]:
    """Name and type, and where it has them kernel size, stride and pad, in pixels."""
    style = style_of(layer.type)
    kind = f"{layer.type} {_filled_in(style.kind, layer)}".rstrip()
    lines = [layer.name, f"({kind})"]
    if style.window:
        lines += _window_lines(layer)
    if display_lrm and style.rates:
        lines.append("lr mult: {:.1f}, {:.1f}".format(*lr_mults(layer)))
    return tuple(lines)


def lr_mults(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """The learning rates' multipliers of a layer's weights and bias; 0 if it does not learn."""
    if not style_of(layer.type).rates:
        return 0.0, 0.0
    given = [param.lr_mult for param in layer.param[:2]]
    weight, bias = (*given, *[1.0] * (2 - len(given)))
    return weight, bias


def _window_lines(layer: caffe_pb2.LayerParameter) -> list[str]:
    message = _own_message(layer)
    if getattr(message, "global_pooling", False):
        return ["kernel size: all"]

    def size(name: str, default: int) -> str:
        stem = name.removesuffix("_size")
        if message.HasField(f"{stem}_h") or message.HasField(f"{stem}_w"):
            values = [getattr(message, f"{stem}_h"), getattr(message, f"{stem}_w")]
        else:
            given = getattr(message, name)
            values = [given] if isinstance(given, int) else list(given) or [default]
        return "x".join(map(str, values if len(set(values)) > 1 else values[:1]))

    return [
        f"kernel size: {size('kernel_size', 1)}",
        f"stride: {size('stride', 1)}",
        f"pad: {size('pad', 0)}",
    ]


def dot_label(lines: Sequence[str], *, separator: str = r"\n") -> str:
    """Lines as a quoted label of Graphviz, in which the signs of its records mean nothing."""
    return '"' + separator.join(re.sub(r'(["\\{}|<>])', r"\\\1", line) for line in lines) + '"'


def dot_attributes(node: Node) -> dict[str, Any]:
    """What Graphviz needs to know of a node, label included."""
    return {
        "label": dot_label(node.lines),
        "shape": "octagon" if node.is_blob else "record",
        "fillcolor": f'"{node.colour}"',
        "style": "filled",
    }


def dot_text(drawing: Drawing) -> str:
    """The drawing in Graphviz's language, for its programs (`dot -Tsvg`) and others."""
    lines = [f"digraph {dot_label([drawing.name])} {{", f"rankdir={drawing.rankdir};"]
    for key, node in drawing.nodes.items():
        attributes = ", ".join(f"{k}={v}" for k, v in dot_attributes(node).items())
        lines.append(f"{dot_label([key])} [{attributes}];")
    for edge in drawing.edges:
        ends = f"{dot_label([edge.source])} -> {dot_label([edge.target])}"
        lines.append(f"{ends} [label={dot_label([edge.label])}];")
    return "\n".join([*lines, "}", ""])
