"""From a Graph to the layers of a net in their places, with the sentences of Caffe's log."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import torch
from torch import nn

from moka.blob import Blob
from moka.data.place import Share
from moka.errors import MokaError, NetError
from moka.free_memory import out_of_memory
from moka.graph import (
    BackwardMarks,
    Graph,
    LearnableBlob,
    Node,
    Sharing,
    in_place_tails,
    mark_backward,
)
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.layers.source import Source, given_source
from moka.net import log_lines
from moka.net.half import half_of
from moka.net.memory import (
    MemoryUse,
    check_all,
    check_tops,
    data_bytes,
    memory_of,
    memory_use,
)
from moka.net.place import Place
from moka.types import Shape

log = logging.getLogger("moka.detail")


# What some errors of Python and PyTorch mean where a layer is made or run, by their words.
PLAIN = {
    "cannot convert float": "one of its numbers is not finite, and a size follows from it.",
    "cannot reshape tensor of 0 elements": "it cannot take a bottom without values.",
}
# Errors among which are those that `explained` explains.
EXPLAINED = (MokaError, MemoryError, RuntimeError, ValueError, OverflowError)


@dataclass(frozen=True)
class Assembly:
    """The parts of a net.

    Attributes:
        places: the layers in running order.
        learnable: every parameter once, with its owner, sharers and factors.
        shapes: of every blob.
        memory: how many bytes blobs and parameters take.
    """

    places: tuple[Place, ...]
    learnable: tuple[LearnableBlob, ...]
    shapes: Mapping[str, Shape]
    memory: MemoryUse


def assemble(
    graph: Graph,
    device: torch.device,
    share: Share,
    given_shapes: Mapping[str, Shape],
    *,
    silent: bool = False,
) -> Assembly:
    """Make the layers of a graph and connect what they share.

    Args:
        graph: the net's structure.
        device: where the net will run.
        share: which part of the data its sources read.
        given_shapes: shapes of tops whose data the caller will give; a source whose tops are all
            among them is not made, so its files need not be there.
        silent: log nothing.

    Raises:
        NetError, DataError: with file and layer.
    """
    say = _say_nothing if silent else log.info
    say(log_lines.opening(graph.filtered))
    made = _make_layers(graph, device, share, given_shapes, say)
    learnable = made.sharing.blobs
    marks = _mark(graph, made.layers, learnable)
    _connect_parameters(made.layers, learnable, marks)
    places = _places(graph, made.layers, marks)
    memory = memory_use(
        graph.nodes,
        made.shapes,
        [layer.makes_views for layer in made.layers],
        counted=made.counted_bytes,
        parameters=[parameter_of(places, blob).shape for blob in learnable],
    )
    try:
        check_all(memory, memory_of(device))
    except NetError as error:
        raise located(error, _largest(graph, made.shapes), graph) from None
    for line in log_lines.closing(places, graph.outputs, memory):
        say(line)
    return Assembly(places, learnable, made.shapes, memory)


def _largest(graph: Graph, shapes: Mapping[str, Shape]) -> Node:
    """The layer with the largest tops."""
    return max(graph.nodes, key=lambda node: data_bytes(shapes[top] for top in node.tops))


def make_blobs(graph: Graph, shapes: Mapping[str, Shape], device: torch.device) -> dict[str, Blob]:
    """All blobs of a net by name; they take no memory before they are used."""
    blobs: dict[str, Blob] = {}
    for node in graph.nodes:
        for top, weight in zip(node.tops, node.loss_weights, strict=True):
            if top not in blobs or weight:
                blobs[top] = Blob(shapes[top], weight, device)
    return blobs


def parameter_of(places: Sequence[Place], blob: LearnableBlob) -> nn.Parameter:
    """The parameter itself."""
    index, k = blob.owner
    return places[index].layer.weights[k]


def located(error: MokaError, node: Node, graph: Graph) -> MokaError:
    """The error, with the net's file and this layer where it names none."""
    return error.at(file=error.file or graph.file, layer=node.name, layer_type=node.type)


def explained(error: Exception, node: Node, graph: Graph) -> MokaError | None:
    """The error with file and layer, if it is one of ours or one of Python's and PyTorch's whose
    cause is plain; None: it is another one."""
    words = str(error)
    if fact := out_of_memory(error) or next((f for w, f in PLAIN.items() if w in words), None):
        error = NetError(fact)
    return located(error, node, graph) if isinstance(error, MokaError) else None


@contextmanager
def naming(node: Node, graph: Graph) -> Iterator[None]:
    """Add file and layer to errors of the block, see `explained`."""
    try:
        yield
    except EXPLAINED as error:
        if told := explained(error, node, graph):
            raise told from None
        raise


def _say_nothing(line: str) -> None:
    pass


# --- layers -----------------------------------------------------------------------------------


@dataclass
class _Made:
    """The layers made so far, and what is known of their blobs."""

    layers: list[Layer]
    shapes: dict[str, Shape]
    sharing: Sharing
    counted_bytes: int  # of tops, as Caffe's log counts them


def _make_layers(
    graph: Graph,
    device: torch.device,
    share: Share,
    given_shapes: Mapping[str, Shape],
    say: Callable[[str], object],
) -> _Made:
    made = _Made([], {}, Sharing(), 0)
    most = memory_of(device)
    for node in graph.nodes:
        with naming(node, graph):
            layer = _make_layer(node, made.shapes, given_shapes)
            check_tops(layer.first_top_shapes, most)
            shared = made.sharing.add(node, layer.blob_shapes)
        if isinstance(layer, Source):
            layer.attach(device, share)
        tops = layer.first_top_shapes
        made.layers.append(layer)
        made.shapes.update(zip(node.tops, tops, strict=True))
        made.counted_bytes += data_bytes(tops)
        for line in log_lines.of_layer(node, layer, made.counted_bytes):
            say(line)
        for blob in shared:
            say(log_lines.of_shared_parameter(blob, graph.nodes[blob.owner[0]]))
    return made


def _make_layer(
    node: Node, shapes: Mapping[str, Shape], given_shapes: Mapping[str, Shape]
) -> Layer:
    if not node.bottoms and node.tops and all(top in given_shapes for top in node.tops):
        return given_source(node.layer, [given_shapes[top] for top in node.tops])
    bottoms = [shapes[name] for name in node.bottoms]
    layer = REGISTRY[node.type].make(node.layer, *bottoms)
    _check_in_place(node, bottoms, layer.first_top_shapes)
    return layer


def _check_in_place(node: Node, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> None:
    """Raises NetError if an in-place layer changes how many elements its blob has."""
    for j, (bottom, top) in enumerate(zip(bottoms, tops, strict=False)):
        if node.in_place(j) and prod(bottom) != prod(top):
            raise NetError(
                f"cannot run in-place: it makes {top} of the {bottom} in '{node.tops[j]}'.",
                advice="Give its top a name of its own.",
            )


# --- parameters and gradients -----------------------------------------------------------------


def _mark(
    graph: Graph, layers: Sequence[Layer], learnable: Sequence[LearnableBlob]
) -> tuple[BackwardMarks, ...]:
    mults = [[0.0] * len(layer.blob_shapes) for layer in layers]
    for blob in learnable:
        for i, k in blob.users:
            # Each user asks for itself, as in Caffe: only the factors are shared. What the net
            # was given counts, not the 0 that BatchNorm adds for its statistics.
            specs = graph.param.layer[i].param
            if k >= len(specs):
                mults[i][k] = 1.0
            elif specs[k].param_propagate_down:
                mults[i][k] = specs[k].lr_mult
    return mark_backward(graph.nodes, mults, graph.param.force_backward)


def _connect_parameters(
    layers: Sequence[Layer], learnable: Sequence[LearnableBlob], marks: Sequence[BackwardMarks]
) -> None:
    """Give every user of a shared parameter the same one; detach it where it is not trained."""
    for blob in learnable:
        parameter = layers[blob.owner[0]].weights_unseen()[blob.owner[1]]
        parameter.requires_grad_(any(marks[i].params[k] for i, k in blob.users))
        for i, k in blob.users[1:]:
            layers[i].share_weight(k, parameter)
        for i, k in blob.users:
            if parameter.requires_grad and not marks[i].params[k]:
                layers[i].detach_weight(k)


# --- places -----------------------------------------------------------------------------------


def _places(
    graph: Graph, layers: Sequence[Layer], marks: Sequence[BackwardMarks]
) -> tuple[Place, ...]:
    observers = _observers(graph.nodes, layers)
    freed = _last_uses(graph.nodes)
    return tuple(
        Place(
            index=i,
            node=node,
            layer=layer,
            marks=marks[i],
            detached=_detached(node, marks[i], graph.param.force_backward),
            freed=tuple(freed[i]),
            half=half_of(node, layer, graph.param),
            observers=tuple(observers[i]),
        )
        for i, (node, layer) in enumerate(zip(graph.nodes, layers, strict=True))
    )


def _detached(node: Node, marks: BackwardMarks, forced: bool) -> tuple[int, ...]:
    """Bottoms that take no gradient although what makes them may: those with
    `propagate_down: false`, and labels where `force_backward` overrules that."""
    return tuple(
        j
        for j, wanted in enumerate(marks.bottoms)
        if not wanted and (forced or not all(node.layer.propagate_down[j : j + 1]))
    )


def _observers(
    nodes: Sequence[Node], layers: Sequence[Layer]
) -> defaultdict[int, list[tuple[int, Layer]]]:
    """For the last in-place layer on a blob, the earlier ones that need to see its result."""
    found: defaultdict[int, list[tuple[int, Layer]]] = defaultdict(list)
    for i, last in in_place_tails(nodes).items():
        if layers[i].entry.gradient_of_final_blob:
            layers[i].expect_final_blob()
            found[last].append((nodes[last].tops.index(nodes[i].tops[0]), layers[i]))
    return found


def _last_uses(nodes: Sequence[Node]) -> defaultdict[int, list[str]]:
    """For each layer the blobs that no later one reads or writes."""
    last: dict[str, int] = {}
    for i, node in enumerate(nodes):
        last.update((name, i) for name in (*node.bottoms, *node.tops))
    freed: defaultdict[int, list[str]] = defaultdict(list)
    for name, i in last.items():
        freed[i].append(name)
    return freed
