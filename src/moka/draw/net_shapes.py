"""The shapes of a net's blobs, as far as its text alone tells them."""

from __future__ import annotations

from collections.abc import Sequence

from moka.errors import MokaError
from moka.graph import Node, build_graph
from moka.layers import REGISTRY
from moka.layers.source import Source
from moka.net.outline import META, image_size, silence
from moka.schema import caffe_pb2
from moka.types import Shape

UNKNOWN = "?"

SizeTexts = tuple[str, ...]  # the sizes of a blob's axes, "?" where they differ


def blob_shapes(
    net: caffe_pb2.NetParameter, phase: caffe_pb2.Phase | None = None
) -> dict[str, SizeTexts]:
    """The shapes of a net's blobs by name.

    A blob is left out if its shape cannot be known: it depends on data that is not there, or on
    the user's own Python code, or a layer has a fault. No memory is taken for parameters.

    Args:
        net: in today's form.
        phase: caffe_pb2.TRAIN or TEST; None: of both, with "?" for axes in which they differ.
    """
    if phase is not None:
        return _texts(_shapes_in(net, phase))
    train, test = (_shapes_in(net, each) for each in (caffe_pb2.TRAIN, caffe_pb2.TEST))
    return {**_texts(test), **_texts(train)} | {
        name: tuple(str(n) if n == m else UNKNOWN for n, m in zip(shape, test[name], strict=True))
        for name, shape in train.items()
        if len(test.get(name, ())) == len(shape)
    }


def _texts(shapes: dict[str, Shape]) -> dict[str, SizeTexts]:
    return {name: tuple(map(str, shape)) for name, shape in shapes.items()}


def _shapes_in(net: caffe_pb2.NetParameter, phase: caffe_pb2.Phase) -> dict[str, Shape]:
    """The shapes of the blobs of one phase."""
    shapes: dict[str, Shape] = {}
    with silence(), META:
        try:
            graph = build_graph(net, REGISTRY, phase=phase)
        except MokaError:
            return {}
        for node in graph.nodes:
            known = shapes.keys() >= set(node.bottoms)
            tops = _top_shapes(node, [shapes[name] for name in node.bottoms]) if known else []
            for name in node.tops:  # whatever an in-place layer had before
                shapes.pop(name, None)
            shapes.update(zip(node.tops, tops, strict=False))
    return shapes


def _top_shapes(node: Node, bottoms: Sequence[Shape]) -> Sequence[Shape]:
    """The shapes of a layer's tops, as many as are known."""
    entry = REGISTRY[node.type]
    if entry.runs_user_code or entry.shapes_from_data:
        return []
    try:
        layer = entry.make(node.layer, *bottoms)
    except (MokaError, OSError):
        images = None if bottoms else image_size(node.layer, entry.message).shape
        return [images, images[:1]] if images else []
    if isinstance(layer, Source):
        layer.close()
    return layer.first_top_shapes
