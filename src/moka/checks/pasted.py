"""A net that somebody has typed or pasted: what is wrong with it and where, or what it is made of.

Nothing that the text names is opened or run: no data, no mean, no file of weights, no Python module
of the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from moka.checks.nets import check_types, layer_types
from moka.checks.stand_in import Built, build
from moka.checks.states import PhaseAndStages, states_of
from moka.errors import MokaError, NetError, SchemaError
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net, read_net
from moka.net.cost import layer_multiply_adds
from moka.net.summary import LayerRow, described_rows, rows
from moka.schema import caffe_pb2, parse_text

FILE = "net.prototxt"  # what messages call the text
MOST_LETTERS = 4_000_000
MOST_LAYERS = 5_000
FLOAT_BYTES = 4
_PLACE = re.compile(rf"^Failed to parse .*? file: {re.escape(FILE)}:(\d+):(\d+): (.*)$", re.DOTALL)
_KIND = re.compile(r"^Error parsing text-format \S+: ")


@dataclass(frozen=True)
class Problem:
    """What stops a net from being built.

    Attributes:
        message: the fact, without its place.
        line, column: in the text, from 1; None: unknown.
        layer: that it concerns.
        advice: what to do about it.
    """

    message: str
    line: int | None = None
    column: int | None = None
    layer: str | None = None
    advice: str | None = None


@dataclass(frozen=True)
class LayerFacts:
    """One layer of a net. What needs shapes is None where the net cannot be built.

    Attributes:
        line: where it begins in the text, from 1.
        multiply_adds: multiplications with weights, each with its addition, for one batch.
        output_bytes: of the blobs that it makes anew, for one batch.
    """

    row: LayerRow
    line: int | None
    multiply_adds: int | None = None
    output_bytes: int | None = None


@dataclass(frozen=True)
class PastedNet:
    """What is known of a text.

    Attributes:
        param: the net in today's form, as far as it could be read.
        states: for which phases and stages it is written.
        state: the one that the layers are of.
        problem: None: the net can be built.
        notes: what else there is to know, as sentences.
        layers: empty if the text cannot be read.
        net: without memory; None: it cannot be built.
    """

    param: caffe_pb2.NetParameter
    states: tuple[PhaseAndStages, ...] = ()
    state: PhaseAndStages | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()
    layers: tuple[LayerFacts, ...] = ()
    net: Net | None = None


def check_text(text: str, state: str = "") -> PastedNet:
    """Check the text of a net.

    Args:
        state: a phase with stages, as `PhaseAndStages` prints them; "": the first that the text is
            written for.
    """
    empty = caffe_pb2.NetParameter()
    if len(text) > MOST_LETTERS:
        problem = Problem(f"the text has {len(text):,} letters, at most {MOST_LETTERS:,} are read.")
        return PastedNet(empty, problem=problem)
    try:
        param, _ = read_net(parse_text(text, caffe_pb2.NetParameter, FILE))
        if not param.layer:
            raise NetError("the net has no layers.")
        if len(param.layer) > MOST_LAYERS:
            raise NetError(f"the net has {len(param.layer):,} layers; {MOST_LAYERS:,} are checked.")
    except MokaError as error:
        return PastedNet(empty, problem=_problem(error, text))
    lines = lines_of_layers(text)
    try:
        check_types(layer_types(param), None)
        states = states_of(param)
    except MokaError as error:
        return PastedNet(param, (), None, _problem(error, text), (), _described(param, lines))
    chosen = next((each for each in states if str(each) == state), states[0])
    try:
        built = _built(param, chosen)
    except MokaError as error:
        problem = _problem(error, text)
        return PastedNet(param, tuple(states), chosen, problem, (), _described(param, lines))
    facts = tuple(_facts(built.net, lines))
    return PastedNet(param, tuple(states), chosen, None, built.notes, facts, built.net)


def check_runs_nothing(param: caffe_pb2.NetParameter) -> None:
    """Raise NetError for a layer whose class runs code of the user's."""
    for layer in param.layer:
        if REGISTRY[layer.type].runs_user_code:
            raise NetError(
                "this layer runs a program of its own, and a pasted net runs no programs.",
                layer=layer.name,
                layer_type=layer.type,
                advice="Check the net with `caffe check`, in the folder of its module.",
            )


def lines_of_layers(text: str) -> dict[str, int]:
    """Where each layer's name stands in a text, by line from 1; of equal names the first."""
    found: dict[str, int] = {}
    pattern = re.compile(r"\bname\s*:\s*(?:\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)')")
    line, last = 1, 0
    for match in pattern.finditer(text):
        line += text.count("\n", last, match.start())
        last = match.start()
        found.setdefault(match[1] if match[1] is not None else match[2], line)
    return found


def _built(param: caffe_pb2.NetParameter, state: PhaseAndStages) -> Built:
    check_runs_nothing(param)
    own = caffe_pb2.NetParameter()
    own.CopyFrom(param)
    for layer in own.layer:
        layer.transform_param.ClearField("mean_file")  # it would be opened for its size
    graph = build_graph(own, REGISTRY, phase=state.phase, stages=state.stages, file=FILE)
    return build(graph, reads_files=False)


def _problem(error: MokaError, text: str) -> Problem:
    placed = _PLACE.match(error.message) if isinstance(error, SchemaError) else None
    if placed:
        fact = _KIND.sub("", placed[3])
        return Problem(fact, int(placed[1]), int(placed[2]), None, error.advice)
    line = lines_of_layers(text).get(error.layer or "")
    if line is None and error.layer is None:
        line = _line_of_quoted(error.message, text)
    return Problem(error.message, line, None, error.layer, error.advice)


def _line_of_quoted(message: str, text: str) -> int | None:
    """The first line that holds, in quotes, what a message names."""
    for name in (found.rstrip(".") for found in re.findall(r"[\w/.-]+", message)):
        for quote in "\"'":
            at = text.find(f"{quote}{name}{quote}")
            if at >= 0:
                return text.count("\n", 0, at) + 1
    return None


def _described(param: caffe_pb2.NetParameter, lines: dict[str, int]) -> tuple[LayerFacts, ...]:
    return tuple(LayerFacts(row, lines.get(row.name)) for row in described_rows(param, {}))


def _facts(net: Net, lines: dict[str, int]) -> Iterator[LayerFacts]:
    places = [place for place in net.places if not place.node.entry.is_plumbing]
    for row, place in zip(rows(net), places, strict=True):
        made = [top for top in place.node.tops if top not in place.node.bottoms]
        sizes = [prod(net.blobs[top].data_memory.shape) for top in made]
        yield LayerFacts(
            row,
            lines.get(row.name),
            layer_multiply_adds(net, place),
            FLOAT_BYTES * sum(sizes) if not REGISTRY[place.node.type].views else 0,
        )
