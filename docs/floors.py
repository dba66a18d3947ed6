"""The floors of the house: which part of `src/` may import which, and a picture of them.

`python docs/floors.py` reads all imports and writes floors.svg. A test holds the code to FLOORS.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
SOURCE = HERE.parent / "src"
# From the ground up. A room is a module or a package of moka; `caffe` is the face of pycaffe. A
# room imports rooms of lower floors only: rooms of one floor do not know each other.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "types", "byte_text", "varint", "free_name", "cores", "two_ways", "telemetry"),
    ("files", "context", "heap", "huge_pages", "fork", "threads", "waiting", "own_caffe"),
    ("free_memory", "hdf5", "mat_file", "schema"),
    ("graph", "memory", "fillers"),
    ("data", "blob"),
    ("layers",),
    ("net",),
    ("weights", "models", "rewrite"),
    ("report", "parallel"),
    ("engine",),
    ("solver",),
    ("predict", "draw"),
    ("export",),
    ("importer", "inference"),
    ("checks",),
    ("api", "doctor"),
    ("serving",),
    ("command",),
    ("cli", "tools", "opencv", "matlab"),
    ("web",),
    ("caffe",),
)
GROUND = {name for names in FLOORS[:2] for name in names}  # whose arrows the picture leaves out
ROOF = ("moka", "moka.__main__")  # the package's face imports on demand, so it stands nowhere

BOX_HEIGHT, FLOOR_HEIGHT, GAP = 34, 58, 16


def imports(source: Path = SOURCE) -> Iterator[tuple[str, str]]:
    """(importing module, imported module) for all modules of ours, those of functions too."""
    modules = {_module(path, source): path for path in sorted(source.rglob("*.py"))}
    for module, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                names = [name if name in modules else node.module for name in inner]
            else:
                continue
            yield from ((module, name) for name in names if name in modules)


def room(module: str) -> str:
    """`moka.net.memory` -> `net`, `caffe.io` -> `caffe`."""
    package, _, rest = module.partition(".")
    return rest.partition(".")[0] or package if package == "moka" else package


def floor_of() -> dict[str, int]:
    """Each room's floor, from 0 at the ground."""
    return {name: level for level, names in enumerate(FLOORS) for name in names}


def faults(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each import that does not lead to a lower floor."""
    floors = floor_of()
    said: dict[str, None] = {}
    for importer, imported in pairs:
        above, below = room(importer), room(imported)
        if importer in ROOF or above == below:
            continue
        if imported in ROOF:
            continue  # its version, its names: all are imported on demand
        for name in (above, below):
            if name not in floors:
                said[f"{name} stands on no floor: add it to FLOORS."] = None
        if floors.get(below, -1) >= floors.get(above, len(FLOORS)):
            said[f"{importer} imports {imported}, which does not lie on a lower floor."] = None
    return list(said)


def arrows(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(upper room, lower room) of all imports, without those that follow from others."""
    below: dict[str, set[str]] = {name: set() for names in FLOORS for name in names}
    for importer, imported in pairs:
        above, under = room(importer), room(imported)
        if above != under and above in below and under in below:
            below[above].add(under)
    reached = {name: _reach(name, below) for name in below}
    return [
        (above, under)
        for above, direct in below.items()
        for under in sorted(direct)
        if not any(under in reached[other] for other in direct - {under})
    ]


def picture(pairs: Iterable[tuple[str, str]]) -> str:
    """An SVG: a floor a line, the ground at the bottom, a line from a room to each that it needs
    (not to the ground floors, which every room may use)."""
    height = FLOOR_HEIGHT * len(FLOORS) + GAP
    width = max(map(_width, FLOORS)) + 2 * GAP
    places = {name: place for names in _places(width, height) for name, place in names.items()}
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="15">',
        "<title>The floors of Moka: each part imports only parts below it</title>",
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for above, under in arrows(pairs):
        if under in GROUND:
            continue
        (x1, y1, _), (x2, y2, _) = places[above], places[under]
        start, end = y1 + BOX_HEIGHT / 2, y2 - BOX_HEIGHT / 2
        bend = (end - start) / 2
        lines.append(
            f'<path d="M{x1:.0f} {start:.0f} C{x1:.0f} {start + bend:.0f} {x2:.0f}'
            f' {end - bend:.0f} {x2:.0f} {end:.0f}" fill="none" stroke="#9aa7b4"'
            ' stroke-width="1.5"/>'
        )
    for name, (x, y, box) in places.items():
        lines.append(
            f'<rect x="{x - box / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{box}"'
            f' height="{BOX_HEIGHT}" rx="6" fill="#fdf6ec" stroke="#7a5230"/>'
        )
        lines.append(
            f'<text x="{x:.0f}" y="{y + 5:.0f}" text-anchor="middle">{escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>", ""])


def _widths(names: Sequence[str]) -> list[int]:
    return [30 + 9 * len(name) for name in names]


def _width(names: Sequence[str]) -> int:
    """Of a floor."""
    return sum(_widths(names)) + 4 * GAP * (len(names) - 1)


def _places(picture_width: int, height: float) -> Iterator[dict[str, tuple[float, float, int]]]:
    """For each floor: room to (x of its center, y of its center, width)."""
    for level, names in enumerate(FLOORS):
        widths = _widths(names)
        left = [(picture_width - _width(names)) / 2]
        for width in widths:
            left.append(left[-1] + width + 4 * GAP)
        y = height - GAP - BOX_HEIGHT / 2 - FLOOR_HEIGHT * level
        yield {
            name: ((a + b - 4 * GAP) / 2, y, width)
            for name, (a, b), width in zip(names, pairwise(left), widths, strict=True)
        }


def _reach(name: str, below: Mapping[str, set[str]]) -> set[str]:
    """All rooms under a room."""
    found: set[str] = set()
    waiting = list(below[name])
    while waiting:
        here = waiting.pop()
        if here not in found and here != name:
            found.add(here)
            waiting.extend(below[here])
    return found


def _module(path: Path, source: Path) -> str:
    name = ".".join(path.relative_to(source).with_suffix("").parts)
    return name.removesuffix(".__init__")


if __name__ == "__main__":
    found = list(imports())
    for fault in faults(found):
        print(fault)
    (HERE / "floors.svg").write_text(picture(found), encoding="utf-8")
