"""A net as a drawing: its layers and blobs as nodes, what they read and write as edges.

Plain data, from which `dot_text` makes Graphviz's language, and `net_picture` a picture after the
passes of `net_passes`. Labels and colors are those of BVLC Caffe's draw.py.
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
VERTICAL = ("TB", "BT")
OTHER = DrawStyle().color
IN_PLACE = "#90EE90"
BLOB = "#E0E0E0"


@dataclass(frozen=True)
class DrawnNode:
    """A layer or a blob.

    Attributes:
        lines: its label.
        color: of its face, #RRGGBB.
        is_blob: blobs are octagons, layers boxes.
        in_place: a layer that changes this blob in place: the key of the blob; else "".
        in_place_lines: of a blob: the layers that change it in place, one on each line.
        is_copy: a blob that is drawn elsewhere too, since one row or column has ended.
    """

    lines: tuple[str, ...]
    color: str
    is_blob: bool = False
    in_place: str = ""
    in_place_lines: tuple[str, ...] = ()
    is_copy: bool = False


@dataclass(frozen=True)
class Edge:
    """An edge from a node to another, by their keys, with a label that may be empty."""

    source: str
    target: str
    label: str = ""


@dataclass(frozen=True)
class Drawing:
    """A net's nodes by key, in the order of the net, and its edges."""

    name: str
    rankdir: str
    nodes: dict[str, DrawnNode]
    edges: tuple[Edge, ...]


def net_drawing(
    net: caffe_pb2.NetParameter,
    rankdir: str = "LR",
    *,
    label_edges: bool = True,
    phase: caffe_pb2.Phase | None = None,
    display_lrm: bool = False,
) -> Drawing:
    """The drawing of a net, in today's form or an older one.

    Args:
        rankdir: where the data flows: LR, RL, TB or BT; the last two have labels of one line.
        label_edges: write the number of outputs, or the size of a batch, on edges.
        phase: draw only the layers of this phase; None: all.
        display_lrm: write the multipliers of the learning rate into labels.

    Raises:
        NetError: another rankdir; a layer with both include and exclude rules.
    """
    if rankdir not in RANKDIRS:
        raise NetError(f"rankdir is one of {', '.join(RANKDIRS)}, got '{rankdir}'.")
    if net_needs_upgrade(net):
        net = upgrade_net(net)
    nodes: dict[str, DrawnNode] = {}
    edges: dict[Edge, None] = {}
    for layer in net.layer:
        if phase is not None and not in_phase(layer, phase):
            continue
        key = f"{layer.name}_{layer.type}"
        in_place = len(layer.bottom) == 1 and list(layer.bottom) == list(layer.top)
        color = IN_PLACE if in_place else layer_color(layer.type)
        lines = layer_lines(layer, display_lrm=display_lrm)
        label = (" ".join(lines),) if rankdir in VERTICAL else lines
        changed = f"{layer.top[0]}_blob" if in_place else ""
        nodes[key] = DrawnNode(label, color, in_place=changed)
        for blob in (*layer.bottom, *layer.top):
            nodes.setdefault(f"{blob}_blob", DrawnNode((blob,), BLOB, is_blob=True))
        edges |= dict.fromkeys(Edge(f"{blob}_blob", key) for blob in layer.bottom)
        outputs = edge_label(layer) if label_edges else ""
        edges |= dict.fromkeys(Edge(key, f"{blob}_blob", outputs) for blob in layer.top)
    return Drawing(net.name or "Net", rankdir, nodes, tuple(edges))


def in_phase(layer: caffe_pb2.LayerParameter, phase: int) -> bool:
    """Whether a layer's rules admit it to the net of a phase, whatever the stages and the level.

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


def layer_color(type_name: str) -> str:
    """The color of a type of layer, #RRGGBB."""
    return style_of(type_name).color


def style_of(type_name: str) -> DrawStyle:
    """The style of a layer type; unknown types get the default."""
    return REGISTRY[type_name].drawn if type_name in REGISTRY else DrawStyle()


def _filled_in(text: str, layer: caffe_pb2.LayerParameter) -> str:
    """A text of a DrawStyle with the values of the layer's options in it."""
    if not text:
        return ""
    message = _own_message(layer)
    names = re.findall(r"{(\w+)}", text)
    return text.format(**{name: field_value(message, name) or 0 for name in names})


def _own_message(layer: caffe_pb2.LayerParameter) -> Any:
    name = REGISTRY[layer.type].message
    return getattr(layer, name) if name else layer


def edge_label(layer: caffe_pb2.LayerParameter) -> str:
    """The label of the edges to a layer's tops: the number of outputs, or of images in a batch."""
    return _filled_in(style_of(layer.type).edge, layer)


def layer_lines(layer: caffe_pb2.LayerParameter, *, display_lrm: bool = False) -> tuple[str, ...]:
    """A layer's name and type, and if it has them kernel size, stride and pad, in pixels."""
    style = style_of(layer.type)
    kind = f"{layer.type} {_filled_in(style.kind, layer)}".rstrip()
    lines = [layer.name, f"({kind})"]
    if style.window:
        lines += _window_lines(layer)
    if display_lrm and style.rates:
        lines.append("lr mult: {:.1f}, {:.1f}".format(*lr_mults(layer)))
    return tuple(lines)


def lr_mults(layer: caffe_pb2.LayerParameter) -> tuple[float, float]:
    """The learning rate's multipliers of a layer's weights and bias; 0 if it does not learn."""
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
        sides = [getattr(message, f"pad_{side}", 0) for side in "tblr"]
        if name == "pad" and any(sides):
            return "{}+{}x{}+{}".format(*sides)
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
    """Lines as a quoted label of Graphviz, with the special signs of its records escaped."""
    return '"' + separator.join(re.sub(r'(["\\{}|<>])', r"\\\1", line) for line in lines) + '"'


def dot_attributes(node: DrawnNode) -> dict[str, Any]:
    """Graphviz's attributes of a node, label included."""
    return {
        "label": dot_label(node.lines),
        "shape": "octagon" if node.is_blob else "record",
        "fillcolor": f'"{node.color}"',
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
