"""Pictures of nets, drawn by matplotlib; no program beside Python is needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from moka.draw.layered import Box, Layout, Point, layered
from moka.draw.net_drawing import Drawing, Edge, Node, dot_text
from moka.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# All lengths are in points, of which an inch has 72.
FONT = 9.0
LABEL_FONT = 7.5  # on edges
LINE = 1.25  # from one line of text to the next, in sizes of the font
MARGIN = 7.0  # around the text of a node
GAP = 14.0  # between nodes beside each other
RANK_GAP = 30.0  # between ranks; more where edges have labels
CORNER = 6.0  # what an octagon lacks
INK = "#333333"
POINTS = 72.0
DPI = 120.0
MOST_PIXELS = 4e7  # of a picture, which takes four bytes each while it is made
LONGEST = 30000.0  # pixels, of its sides
TEXT_FORMS = ("dot", "gv", "raw")  # no pictures, but Graphviz's language

Place = tuple[float, float]


def draw(drawing: Drawing, form: str) -> bytes:
    """A drawing as the content of a file.

    Args:
        form: png, svg, pdf, or another of matplotlib's; dot, gv or raw: Graphviz's language.

    Raises:
        UsageError: another form, or matplotlib is missing.
    """
    form = form.lower()
    if form in TEXT_FORMS:
        return dot_text(drawing).encode()
    picture = figure(drawing)
    known = picture.canvas.get_supported_filetypes()
    if form not in known:
        endings = ", ".join(f".{each}" for each in dict.fromkeys((*known, *TEXT_FORMS)))
        raise UsageError(f"a net is drawn into {endings}, not '.{form}'.")
    import matplotlib

    width, height = picture.get_size_inches()
    dpi = min(DPI, LONGEST / max(width, height), (MOST_PIXELS / (width * height)) ** 0.5)
    file = io.BytesIO()
    always_the_same: Any = {"svg.hashsalt": "moka"}
    with matplotlib.rc_context(always_the_same):
        metadata = {"Date": None} if form == "svg" else None
        picture.savefig(file, format=form, dpi=dpi, metadata=metadata)
    return file.getvalue()


def figure(drawing: Drawing) -> Figure:
    """A drawing as matplotlib's figure. Raises UsageError if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "drawing needs matplotlib, which is not installed.",
            advice="Install it: pip install matplotlib. Or draw into a .dot file.",
        ) from None
    sizes = {key: _size(node) for key, node in drawing.nodes.items()}
    flat = drawing.rankdir in ("LR", "RL")  # along is to the right, else down
    boxes = {key: Box(w, h) if flat else Box(h, w) for key, (w, h) in sizes.items()}
    labels = [edge.label for edge in drawing.edges if edge.label]
    room = max((_text_width(text, LABEL_FONT) for text in labels), default=0.0) if flat else 0.0
    ends = [(edge.source, edge.target) for edge in drawing.edges]
    layout = layered(boxes, ends, rank_gap=RANK_GAP + room, gap=GAP)
    length, breadth = (extent + 2 * GAP for extent in layout.size)

    def at(point: Point) -> Place:
        """Points from the lower left corner."""
        along, across = point[0] + GAP, point[1] + GAP
        if drawing.rankdir in ("RL", "BT"):
            along = length - along
        return (along, breadth - across) if flat else (across, length - along)

    width, height = (length, breadth) if flat else (breadth, length)
    made = Figure(figsize=(width / POINTS, height / POINTS), facecolor="white")
    axes: Any = made.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    for edge in drawing.edges:
        _draw_edge(axes, edge, layout, boxes, at)
    for key, node in drawing.nodes.items():
        _draw_node(axes, node, at(layout.nodes[key]), sizes[key])
    return made


def _text_width(text: str, size: float) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(size=size)
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def _size(node: Node) -> tuple[float, float]:
    """Width and height of a node."""
    text = max(_text_width(line, FONT) for line in node.lines)
    height = LINE * FONT * len(node.lines)
    return text + 2 * MARGIN, height + 2 * MARGIN - 2


def _draw_node(axes: Any, node: Node, centre: Place, size: tuple[float, float]) -> None:
    from matplotlib.patches import Polygon

    (x, y), (w, h) = centre, size
    cut = CORNER if node.is_blob else 0.0
    corners = []
    for sx, sy in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        side, end = (
            (x + sx * w / 2, y + sy * (h / 2 - cut)),
            (x + sx * (w / 2 - cut), y + sy * h / 2),
        )
        corners += [side, end] if sx * sy > 0 else [end, side]
    axes.add_patch(Polygon(corners, facecolor=node.colour, edgecolor=INK, linewidth=0.8, zorder=2))
    axes.text(
        x, y, "\n".join(node.lines), fontsize=FONT, linespacing=LINE, ha="center", va="center",
        parse_math=False, zorder=3,
    )  # fmt: skip


def smooth(way: Sequence[Point]) -> list[Point]:
    """The points of cubic Bezier curves through some points: the first, then for each of the others
    two that steer and itself. They are level at both ends, and nowhere swing beyond the points: a
    point between two slopes has their harmonic mean (Fritsch and Butland, 1984)."""
    steps = [(q[1] - p[1]) / (q[0] - p[0]) for p, q in pairwise(way)]
    inner = [2 * m * n / (m + n) if m * n > 0 else 0.0 for m, n in pairwise(steps)]
    points = [way[0]]
    for (p, q), (m, n) in zip(pairwise(way), pairwise([0.0, *inner, 0.0]), strict=True):
        reach = (q[0] - p[0]) / 2
        points += [(p[0] + reach, p[1] + reach * m), (q[0] - reach, q[1] - reach * n), q]
    return points


def _draw_edge(axes: Any, edge: Edge, layout: Layout, boxes: dict[str, Box], at: Any) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    points = layout.edges[edge.source, edge.target]
    there_and_back = (edge.target, edge.source) in layout.edges
    sign = 1 if points[-1][0] > points[0][0] else -1
    start = points[0][0] + sign * boxes[edge.source].along / 2, points[0][1]
    stop = points[-1][0] - sign * boxes[edge.target].along / 2, points[-1][1]
    if there_and_back:  # beside the line that goes the other way
        aside = sign * min(4.0, *(boxes[k].across / 4 for k in (edge.source, edge.target)))
        start, stop = (start[0], start[1] + aside), (stop[0], stop[1] + aside)
    way = [start, *points[1:-1], stop]
    vertices = [at(point) for point in smooth(way)]
    codes = [Path.MOVETO, *[Path.CURVE4] * (len(vertices) - 1)]
    axes.add_patch(
        FancyArrowPatch(
            path=Path(vertices, codes), arrowstyle="-|>", mutation_scale=9, shrinkA=0, shrinkB=0,
            color=INK, linewidth=0.9, zorder=1,
        )
    )  # fmt: skip
    if edge.label:
        (a0, c0), (a1, c1) = way[0], way[1]
        x, y = at(((a0 + a1) / 2, (c0 + c1) / 2))
        axes.text(
            x, y, edge.label, fontsize=LABEL_FONT, ha="center", va="center", parse_math=False,
            zorder=4, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )  # fmt: skip
