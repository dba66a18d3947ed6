"""The part of the data that a net reads if several processes train or test one model."""

from __future__ import annotations

from moka.data.place import Share
from moka.errors import SolverError
from moka.graph import Graph
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.layers.source import Source
from moka.layers.stream import StreamSource
from moka.net import Net
from moka.net.place import Place
from moka.parallel.team import Team
from moka.schema import caffe_pb2

BATCH_SIZE = "batch_size"  # the option of sources that --strong divides


def share_of_data(phase: caffe_pb2.Phase, team: Team) -> Share:
    """This process's part in training; all of the data in testing, until `share_batches`."""
    return Share(team.rank, team.size) if phase == caffe_pb2.TRAIN else Share()


def share_batches(net: Net, team: Team) -> bool:
    """Let each process of a team read every `size`-th batch of a test net, if that is possible.

    It is not if a batch depends on the one before (recurrent layers that go on), if a layer runs
    code of the user or writes files, or if its data come from elsewhere than from files.

    Returns:
        Whether the processes share the batches; else one of them has to run all.
    """
    if not team.is_connected or not all(map(_is_pure, net.places)):
        return False
    for _, source in net.sources:
        if isinstance(source, StreamSource):
            source.attach(net.device, Share(team.rank, team.size, whole_batches=True))
    return True


def _is_pure(place: Place) -> bool:
    """Whether what this layer does in a pass depends on nothing but the batch and parameters."""
    entry, layer = REGISTRY[place.node.type], place.layer
    if entry.runs_user_code or entry.writes_files or entry.source == "arrays":
        return False
    if isinstance(layer, Source) and entry.source == "fillers":
        return len(layer.made_once()) == len(place.node.tops)
    return type(layer).run_state is Layer.run_state


def split_batches(graph: Graph, size: int) -> caffe_pb2.NetParameter:
    """The net of a graph whose sources make batches of one `size`-th of their items.

    Raises:
        SolverError: a batch is not divisible, or comes from a source without a batch_size.
    """
    net = caffe_pb2.NetParameter()
    net.CopyFrom(graph.filtered)
    for layer in net.layer:
        entry = REGISTRY[layer.type]
        if entry.source in ("parameters", None):
            continue
        homes = [o.of or entry.message for o in entry.make.options if o.name == BATCH_SIZE]
        message = getattr(layer, str(homes[0])) if homes else None
        if message is None:
            raise _cannot_split("it has no batch_size", layer, graph)
        if message.batch_size % size:
            raise _cannot_split(f"its batch_size is {message.batch_size}", layer, graph)
        message.batch_size //= size
    return net


def _cannot_split(fact: str, layer: caffe_pb2.LayerParameter, graph: Graph) -> SolverError:
    return SolverError(
        f"--strong divides its batch among the processes, but {fact}.",
        advice="Choose a batch_size that their number divides, or leave --strong out.",
    ).at(file=graph.file, layer=layer.name, layer_type=layer.type)
