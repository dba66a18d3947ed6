"""Nets as they were trained, and the nets for use that they become, with or without their data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from moka.checks.nets import weights_fit
from moka.checks.stand_in import Built, build
from moka.graph import Graph
from moka.net.outline import outline, silence
from moka.rewrite.for_use import DATA, net_for_use
from moka.schema import caffe_pb2
from moka.types import Shape
from moka.weights.shapes import stored_shapes


@dataclass(frozen=True)
class MadeForUse:
    """A net for use.

    Attributes:
        reads: the data layer that its first input stands for.
        notes: what is to say of the sizes of its inputs, as sentences.
        is_guess: the sizes of its inputs are a guess.
    """

    net: caffe_pb2.NetParameter
    reads: caffe_pb2.LayerParameter
    notes: tuple[str, ...] = ()
    is_guess: bool = False

    @property
    def inputs_told(self) -> str:
        """`input "data" is 3 x 227 x 227`: what one example of each input is."""
        inputs = [layer for layer in self.net.layer if layer.HasField("input_param")]
        return " and ".join(
            f'input "{layer.top[0]}" is {_sizes(layer.input_param.shape[0].dim[1:])}'
            for layer in inputs
        )


def is_for_use(graph: Graph) -> bool:
    """Whether a net's caller gives its data, or it reads none."""
    sources = {node.entry.source for node in graph.nodes}
    return "caller" in sources or sources.isdisjoint(DATA)


def made_for_use(
    graph: Graph, weights: Sequence[str] = (), given_shapes: Mapping[str, Shape] | None = None
) -> MadeForUse:
    """The net for use that a net for training becomes; see `net_for_use`.

    Args:
        graph: of the phase TEST.
        weights: files; they tell the sizes of data that is not there, where the text does not.
        given_shapes: of the blobs of data layers, which then read no files.

    Raises:
        MokaError: the net cannot be built, or not be made one for use; or weights cannot be read.
    """
    fits = None
    if stored := [layer for file in weights for layer in stored_shapes(file)]:
        fits = partial(weights_fit, stored=stored, weights=weights[0])
    with silence():
        built = Built(outline(graph, given_shapes)) if given_shapes else build(graph, fits)
    shapes = {name: tuple(blob.data_memory.shape) for name, blob in built.net.blobs.items()}
    net = net_for_use(graph, shapes)
    first = next(layer.top[0] for layer in net.layer if layer.HasField("input_param"))
    reads = next(layer for layer in graph.filtered.layer if first in layer.top)
    return MadeForUse(net, reads, built.notes, built.is_guess)


def _sizes(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) or "a number"
