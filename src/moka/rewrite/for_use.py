"""A net for training as a net for use: its caller gives the data, and it tells what it predicts
in place of a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from google.protobuf.message import Message

from moka.errors import NetError
from moka.free_name import free_name
from moka.graph import Graph
from moka.layers import REGISTRY
from moka.schema import caffe_pb2
from moka.types import Shape

PREDICTION = "prob"
IMAGE_AXES = 4
DATA = ("files", "arrays")  # sources of what a net is trained with
RESULTS = "save_output_param"  # files of detections, which tests write


def net_for_use(graph: Graph, shapes: Mapping[str, Shape]) -> caffe_pb2.NetParameter:
    """The net that a graph (of the phase TEST) becomes for use; a net whose caller gives its data
    already stays as it is.

    Where the last loss has a layer that predicts, as Softmax for SoftmaxWithLoss, that layer takes
    its place. The blobs of data layers that the prediction needs become the inputs, and all else is
    left out: labels, other losses, accuracies.

    Else, and where the scores need the labels (margins of face recognition), one blob becomes the
    input: the first images (N, C, H, W) that a data layer makes, else the first blob. The layers
    that need nothing else stay.

    An input takes one example.

    Args:
        shapes: of the blobs of data layers.

    Raises:
        NetError: the prediction needs nothing that a data layer makes.
    """
    layers = list(graph.filtered.layer)
    if any(REGISTRY[layer.type].source == "caller" for layer in layers):
        return graph.filtered
    read = [top for layer in layers if _reads(layer) for top in layer.top]
    if (kept := _predicting(layers)) is not None:
        needed = {name for layer in kept for name in layer.bottom}
        inputs = [top for top in read if top in needed]
    else:
        images = [top for top in read if len(shapes[top]) == IMAGE_AXES]
        inputs = (images or read)[:1]
        kept = _made_of(inputs, layers)
    if not inputs:
        raise NetError("what the net predicts needs nothing of a data layer.", file=graph.file)
    given = [_input(top, shapes[top]) for top in inputs]
    return caffe_pb2.NetParameter(name=graph.name, layer=[*given, *map(_plain, kept)])


def _reads(layer: caffe_pb2.LayerParameter) -> bool:
    """Whether it is a data layer."""
    return not layer.bottom and REGISTRY[layer.type].source in DATA


def last_loss(layers: Sequence[caffe_pb2.LayerParameter]) -> int | None:
    """Where the last loss stands; None: there is none."""
    losses = [i for i, layer in enumerate(layers) if REGISTRY[layer.type].is_loss]
    return losses[-1] if losses else None


def _predicting(
    layers: Sequence[caffe_pb2.LayerParameter],
) -> list[caffe_pb2.LayerParameter] | None:
    """The layers that lead to the last loss, with one that predicts in its place; None: it has no
    such layer, or its scores need labels."""
    end = last_loss(layers)
    if end is None:
        return None
    loss = layers[end]
    kind = REGISTRY[loss.type].prediction
    kept = _leading_to(loss.bottom[0], layers[:end])
    if kind is None or _labels(layers).intersection(name for each in kept for name in each.bottom):
        return None
    used = {name for layer in layers for name in (layer.name, *layer.top)}
    return [*kept, _prediction(loss, kind, free_name(PREDICTION, used))]


def _labels(layers: Sequence[caffe_pb2.LayerParameter]) -> set[str]:
    """What losses are told beside their first bottom, of the blobs that stand second or later in a
    data layer; the first are the data, which autoencoders compare with."""
    told = {name for each in layers if REGISTRY[each.type].is_loss for name in each.bottom[1:]}
    return told.intersection(top for each in layers if _reads(each) for top in each.top[1:])


def _input(top: str, shape: Shape) -> caffe_pb2.LayerParameter:
    layer = caffe_pb2.LayerParameter(name=top, type="Input", top=[top])
    layer.input_param.shape.add(dim=[1, *shape[1:]])
    return layer


def _plain(layer: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    copy.ClearField("include")
    copy.ClearField("exclude")
    for _, options in copy.ListFields():
        if isinstance(options, Message) and RESULTS in options.DESCRIPTOR.fields_by_name:
            options.ClearField(RESULTS)
    return copy


def _prediction(loss: caffe_pb2.LayerParameter, kind: str, name: str) -> caffe_pb2.LayerParameter:
    """The layer of this kind that tells what a loss compares with labels."""
    made = caffe_pb2.LayerParameter(name=name, type=kind, bottom=[loss.bottom[0]], top=[name])
    message = REGISTRY[kind].message
    if message and loss.HasField(message):
        getattr(made, message).CopyFrom(getattr(loss, message))
    return made


def _leading_to(
    blob: str, layers: Sequence[caffe_pb2.LayerParameter]
) -> list[caffe_pb2.LayerParameter]:
    """The layers that make a blob of what data layers make."""
    needed, kept = {blob}, []
    for layer in reversed(layers):
        if needed.intersection(layer.top) and not _reads(layer):
            needed |= set(layer.bottom)
            kept.append(layer)
    return kept[::-1]


def _made_of(
    blobs: Sequence[str], layers: Sequence[caffe_pb2.LayerParameter]
) -> list[caffe_pb2.LayerParameter]:
    """The layers that can be computed from these blobs alone."""
    made, kept = set(blobs), []
    for layer in layers:
        if made.issuperset(layer.bottom) and not _reads(layer):
            made |= set(layer.top)
            kept.append(layer)
    return kept
