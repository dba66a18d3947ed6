"""What differs between two nets, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from moka.schema import caffe_pb2, format_text

Change = Literal["same", "changed", "added", "removed"]


@dataclass(frozen=True)
class LayerPair:
    """A layer of two nets.

    Attributes:
        name: of the layer.
        change: "added": only the second net has it.
        before, after: the lines of its text that differ; all of them if only one net has it.
    """

    name: str
    change: Change
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


def compare_nets(a: caffe_pb2.NetParameter, b: caffe_pb2.NetParameter) -> list[LayerPair]:
    """The layers of both nets, in today's form, in the order of the second one; removed layers
    stand where they were.

    Layers of one name belong together; of several layers of one name (for other phases) the first
    to the first, and so on.
    """
    first, second = _named(a), _named(b)
    texts = dict(first), dict(second)
    made: list[LayerPair] = []
    matcher = SequenceMatcher(None, [n for n, _ in first], [n for n, _ in second], autojunk=False)
    for _, i1, i2, j1, j2 in matcher.get_opcodes():
        gone = [name for name, _ in first[i1:i2] if name not in texts[1]]
        made += [LayerPair(_plain(n), "removed", _lines(texts[0][n])) for n in gone]
        for name, text in second[j1:j2]:
            if name in texts[0]:
                made.append(_pair(_plain(name), texts[0][name], text))
            else:
                made.append(LayerPair(_plain(name), "added", (), _lines(text)))
    return made


Key = tuple[str, int]


def _named(net: caffe_pb2.NetParameter) -> list[tuple[Key, str]]:
    seen: dict[str, int] = {}
    named = []
    for layer in net.layer:
        number = seen.get(layer.name, 0)
        seen[layer.name] = number + 1
        named.append(((layer.name, number), format_text(layer)))
    return named


def _plain(key: Key) -> str:
    return key[0]


def _pair(name: str, before: str, after: str) -> LayerPair:
    if before == after:
        return LayerPair(name, "same")
    a, b = _lines(before), _lines(after)
    gone: list[str] = []
    new: list[str] = []
    for _, i1, i2, j1, j2 in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if a[i1:i2] != b[j1:j2]:
            gone += a[i1:i2]
            new += b[j1:j2]
    return LayerPair(name, "changed", tuple(gone), tuple(new))


def _lines(text: str) -> tuple[str, ...]:
    """The fields of a text, one a line, each with the messages it lies in: `a.b: 1`."""
    found: list[str] = []
    inside: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.endswith("{"):
            inside.append(bare[:-1].strip())
        elif bare == "}":
            inside.pop()
        else:
            found.append(".".join([*inside, bare]))
    return tuple(found)
