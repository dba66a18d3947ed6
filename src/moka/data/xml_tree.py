"""A small XML file as a tree. Files that declare entities are refused: a few lines of them could
expand to gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

from moka.errors import DataError


@dataclass(slots=True, eq=False)
class Element:
    """An element: its name, the line where it begins (from 1), the pieces of its own text, and the
    elements in it."""

    name: str
    line: int
    pieces: list[str] = field(default_factory=list, repr=False)
    children: list[Element] = field(default_factory=list, repr=False)

    @property
    def text(self) -> str:
        """Its own text, without the blanks around it."""
        return "".join(self.pieces).strip()

    def every(self, name: str) -> Iterator[Element]:
        """The elements of a name directly in it."""
        return (child for child in self.children if child.name == name)

    def first(self, name: str) -> Element | None:
        """The first of `every`; None: there is none."""
        return next(self.every(name), None)


def parse_xml(text: str) -> Element:
    """The root of a text in XML. An encoding that it declares has no meaning any more.

    Raises:
        DataError: it is no XML, is not complete, or declares its own entities. It names the line.
    """
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    stack: list[Element] = []
    roots: list[Element] = []

    def start(name: str, _: dict[str, str]) -> None:
        element = Element(name, parser.CurrentLineNumber)
        (stack[-1].children if stack else roots).append(element)
        stack.append(element)

    def refuse(name: str, system: str | None, public: str | None, declares: int) -> None:
        if declares:
            raise DataError(
                f"line {parser.CurrentLineNumber}: the DOCTYPE has declarations, which could make"
                " the file expand without end, so it is not read.",
                advice="Remove the part in [ ] from the file.",
            )

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: stack.pop()
    parser.CharacterDataHandler = lambda piece: stack[-1].pieces.append(piece)
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        raise DataError(
            f"line {error.lineno}: this is no complete XML: {expat.ErrorString(error.code)}."
        ) from None
    return roots[0]
