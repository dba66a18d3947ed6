"""Pictures of nets, drawn by matplotlib; no program beside Python is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from moka.draw.figures import INSTALL, check_matplotlib, file_forms, picture_bytes
from moka.draw.net_drawing import (
    IN_PLACE,
    VERTICAL,
    Drawing,
    DrawnNode,
    Edge,
    dot_text,
    net_drawing,
)
from moka.draw.net_layout import POINTS, XY, Placed, SizeOfNode, lay_out
from moka.draw.net_passes import (
    add_shapes,
    cut,
    fold_in_place,
    in_two_lines,
    join_parallel,
    layer_count,
)
from moka.draw.net_shapes import blob_shapes
from moka.errors import UsageError
from moka.schema import caffe_pb2
from moka.schema.upgrade import upgrade_net

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# All lengths are in points.
FONT = 9.0
LABEL_FONT = 7.5  # on edges
LINE = 1.25  # from one line of text to the next, in sizes of the font
MARGIN = 7.0  # around the text of a node
BORDER = 14.0  # around the picture
PART_GAP = 40.0  # between rows or columns
CORNER = 6.0  # how much of a corner an octagon cuts off
INK = "#333333"
COPY_FACE = "#F7F7F7"  # of a blob that is drawn elsewhere too
DPI = 120.0
MOST_PIXELS = 4e7  # of a picture, which takes four bytes each while it is made
LONGEST_SIDE = 30000.0  # pixels
TEXT_FORMS = ("dot", "gv", "raw")  # no pictures, but Graphviz's language

LARGE = 30  # layers from which on the data flows down unless the user says otherwise
LONGEST_PART = 1200.0  # a longer drawing is cut into columns, or rows
PORTRAIT, LANDSCAPE = 1.3, 0.65  # height by width of what has been cut into columns, or rows


def net_picture_bytes(
    net: caffe_pb2.NetParameter,
    form: str,
    rankdir: str | None = None,
    *,
    phase: caffe_pb2.Phase | None = None,
    display_lrm: bool = False,
) -> bytes:
    """A net, in today's form or an older one, as the content of a file.

    Pictures show the shapes of blobs where the net's text tells them, and write layers that work
    in place into their blob. Graphviz's language shows what BVLC Caffe's draw.py does.

    Args:
        form: png, svg, pdf, or another of matplotlib's; dot, gv or raw: Graphviz's language.
        rankdir: where the data flows: LR, RL, TB or BT; None: to the right, but down in a net of
            many layers.
        phase, display_lrm: see `moka.draw.net_drawing`.

    Raises:
        NetError: another rankdir; a layer with both include and exclude rules.
        UsageError: another form, or matplotlib is missing.
    """
    form = form.lower()
    net = upgrade_net(net)
    draw = partial(net_drawing, net, phase=phase, display_lrm=display_lrm)
    drawing = draw(rankdir or "LR")
    if rankdir is None and layer_count(drawing) > LARGE:
        drawing = draw("TB")
    if form in TEXT_FORMS:
        return dot_text(drawing).encode()
    check_matplotlib(f"{INSTALL}. Or draw into a .dot file.")
    known = dict.fromkeys((*file_forms(), *TEXT_FORMS))
    if form not in known:
        endings = ", ".join(f".{each}" for each in known)
        raise UsageError(f"a net is drawn into {endings}, not '.{form}'.")
    if drawing.rankdir in VERTICAL:
        drawing = in_two_lines(draw("LR"), drawing.rankdir)
    readable = add_shapes(join_parallel(fold_in_place(drawing)), blob_shapes(net, phase))
    picture = figure(readable)
    return picture_bytes(picture, form, dpi=_resolution(picture), title=drawing.name)


def _resolution(picture: Figure) -> float:
    """Pixels for each inch of a picture; fewer if it is very large."""
    width, height = picture.get_size_inches()
    return min(DPI, LONGEST_SIDE / max(width, height), (MOST_PIXELS / (width * height)) ** 0.5)


def figure(drawing: Drawing) -> Figure:
    """A drawing as matplotlib's figure, which has to be installed."""
    from matplotlib.figure import Figure

    parts, places = _arranged(drawing)
    width = max((x + placed.size[0] for placed, (x, _) in places), default=0.0) + 2 * BORDER
    height = max((placed.size[1] - y for placed, (_, y) in places), default=0.0) + 2 * BORDER
    made = Figure(figsize=(width / POINTS, height / POINTS), facecolor="white")
    axes: Any = made.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for part, (placed, (x, y)) in zip(parts, places, strict=True):
        here = placed.moved(x + BORDER, height - BORDER + y - placed.size[1])
        for edge, way, label in zip(part.edges, here.ways, here.labels, strict=True):
            _draw_edge(axes, edge, way, label)
        for key, node in part.nodes.items():
            _draw_node(axes, node, here.nodes[key], _size(node))
    return made


Part = tuple[Placed, XY]  # and its upper left corner, from that of the whole


def _arranged(drawing: Drawing) -> tuple[list[Drawing], list[Part]]:
    """A drawing in columns if it flows down and is long, in rows if it flows to the side."""
    vertical = drawing.rankdir in VERTICAL
    across = 0 if vertical else 1
    shape = PORTRAIT if vertical else 1 / LANDSCAPE
    parts = [drawing]
    placed = [_placed(drawing)]
    for _ in range(3):  # parts are narrower than the whole, which drifts to the side
        length = sum(part.size[1 - across] for part in placed)
        breadth = sum(part.size[across] for part in placed) / len(placed)
        if length <= LONGEST_PART:
            break
        count = max(1, round(math.sqrt(length / (breadth + PART_GAP) / shape)))
        if count != len(parts):
            parts = cut(drawing, count)
            placed = [_placed(part) for part in parts]
    if len(placed) > 1 or placed[0].size[1 - across] > LONGEST_PART:
        finer = cut(drawing, len(parts) + 1)
        finer_placed = [_placed(part) for part in finer]
        if _misfit(finer_placed, across, shape) < _misfit(placed, across, shape):
            parts, placed = finer, finer_placed
    places: list[Part] = []
    at = 0.0
    for part in placed:
        places.append((part, (at, 0.0) if vertical else (0.0, -at)))
        at += part.size[across] + PART_GAP
    return parts, places


def _misfit(parts: Sequence[Placed], across: int, shape: float) -> float:
    """How far the parts side by side are from a shape (length by breadth): 0 if they have it."""
    breadth = sum(part.size[across] for part in parts) + PART_GAP * (len(parts) - 1)
    return abs(math.log(max(part.size[1 - across] for part in parts) / breadth / shape))


def _placed(drawing: Drawing) -> Placed:
    sizes = {key: _size(node) for key, node in drawing.nodes.items()}
    labels = [
        (_text_width(edge.label, LABEL_FONT) + 4, LINE * LABEL_FONT) if edge.label else (0.0, 0.0)
        for edge in drawing.edges
    ]
    return lay_out(drawing, sizes, labels)


@cache
def _text_width(text: str, size: float) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _size(node: DrawnNode) -> SizeOfNode:
    """Width and height of a node."""
    lines = (*node.lines, *node.in_place_lines)
    text = max(_text_width(line, FONT) for line in lines)
    height = LINE * FONT * len(lines) + 2 * MARGIN - 2
    return text + 2 * MARGIN, height + (MARGIN - 2 if node.in_place_lines else 0)


def _draw_node(axes: Any, node: DrawnNode, center: XY, size: SizeOfNode) -> None:
    from matplotlib.patches import Polygon, Rectangle

    (x, y), (w, h) = center, size
    axes.add_patch(
        Polygon(
            _octagon(center, size) if node.is_blob else _rectangle(center, size),
            facecolor=COPY_FACE if node.is_copy else node.color,
            edgecolor=INK,
            linewidth=0.8,
            linestyle="--" if node.is_copy else "-",
            zorder=2,
        )
    )
    below = LINE * FONT * len(node.in_place_lines) + (MARGIN - 2 if node.in_place_lines else 0)
    _draw_lines(axes, node.lines, (x, y + below / 2))
    if node.in_place_lines:
        band = LINE * FONT * len(node.in_place_lines) + 2
        bottom = y - h / 2 + CORNER
        axes.add_patch(
            Rectangle((x - w / 2 + 0.4, bottom), w - 0.8, band, facecolor=IN_PLACE, zorder=2.5)
        )
        _draw_lines(axes, node.in_place_lines, (x, bottom + band / 2))


def _draw_lines(axes: Any, lines: Sequence[str], center: XY) -> None:
    axes.text(
        *center, "\n".join(lines), fontsize=FONT, linespacing=LINE, ha="center", va="center",
        parse_math=False, zorder=3,
    )  # fmt: skip


def _rectangle(center: XY, size: SizeOfNode) -> list[XY]:
    (x, y), (w, h) = center, size
    return [(x + sx * w / 2, y + sy * h / 2) for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1))]


def _octagon(center: XY, size: SizeOfNode) -> list[XY]:
    (x, y), (w, h) = center, size
    corners: list[XY] = []
    for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        side = (x + sx * w / 2, y + sy * (h / 2 - CORNER))
        end = (x + sx * (w / 2 - CORNER), y + sy * h / 2)
        corners += [side, end] if sx * sy > 0 else [end, side]
    return corners


def _draw_edge(axes: Any, edge: Edge, way: Sequence[XY], label: XY | None) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    codes = [Path.MOVETO, *[Path.CURVE4] * (len(way) - 1)]
    axes.add_patch(
        FancyArrowPatch(
            path=Path(way, codes), arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0,
            color=INK, linewidth=0.9, zorder=1,
        )
    )  # fmt: skip
    if label is not None:
        axes.text(
            *label, edge.label, fontsize=LABEL_FONT, ha="center", va="center", parse_math=False,
            zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
