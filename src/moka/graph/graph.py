"""From a NetParameter and a NetState to a Graph, by small passes over plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moka.errors import MokaError
from moka.graph.aligned_crops import with_aligned_crops
from moka.graph.filter import filter_net
from moka.graph.splits import insert_splits
from moka.graph.wiring import EntryLike, Node, wire
from moka.schema import caffe_pb2
from moka.types import PathLike


@dataclass(frozen=True)
class Graph:
    """A net's structure: nodes in running order and the names at its borders.

    Attributes:
        file: where it was read from, for error messages.
        filtered: the net with only the layers of this state; never changed.
        param: the same with Split layers inserted.
        nodes: the layers.
        inputs: blobs that the caller fills, in order.
        outputs: blobs that no layer reads, in alphabetical order.
    """

    file: PathLike
    filtered: caffe_pb2.NetParameter
    param: caffe_pb2.NetParameter
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.param.name

    @property
    def phase(self) -> caffe_pb2.Phase:
        return self.param.state.phase

    @property
    def blob_names(self) -> tuple[str, ...]:
        """All blobs, in the order in which layers make them."""
        return tuple(dict.fromkeys(top for node in self.nodes for top in node.tops))

    def __str__(self) -> str:
        width = max((len(node.name) for node in self.nodes), default=0)
        return "\n".join(
            f"{node.name:{width}}  {node.type}  {', '.join(node.bottoms)} -> {', '.join(node.tops)}"
            for node in self.nodes
        )


def build_graph(
    net: caffe_pb2.NetParameter,
    registry: Mapping[str, EntryLike],
    *,
    phase: caffe_pb2.Phase | None = None,
    level: int | None = None,
    stages: Sequence[str] = (),
    file: PathLike = "(text)",
) -> Graph:
    """Build the graph of a net for one state.

    Args:
        net: the net, in today's form (see `moka.schema.upgrade`).
        registry: layer type to entry.
        phase: TRAIN or TEST, in place of the file's; None: the file's.
        level: the state's level, in place of the file's; None: the file's.
        stages: the state's stages beside the file's.
        file: where the net came from, for error messages.

    Raises:
        NetError: a fault in the structure; names file and layer.
    """
    state = caffe_pb2.NetState()
    state.CopyFrom(net.state)
    if phase is not None:
        state.phase = phase
    if level is not None:
        state.level = level
    state.stage.extend(stages)
    try:
        filtered = with_aligned_crops(filter_net(net, state), registry)
        param = insert_splits(filtered)
        nodes, outputs = wire(param, registry)
    except MokaError as error:
        raise error.at(file=file) from None
    inputs = tuple(top for node in nodes if node.entry.source == "caller" for top in node.tops)
    return Graph(file, filtered, param, nodes, inputs, outputs)
