"""A net for training as a net for use: its caller gives the images, and it tells what it predicts
in place of a loss."""

from __future__ import annotations

from collections.abc import Mapping

from moka.errors import NetError
from moka.free_name import free_name
from moka.graph import Graph
from moka.layers import REGISTRY
from moka.schema import caffe_pb2
from moka.types import Shape

PREDICTION = "prob"
IMAGE_AXES = 4


def net_for_use(graph: Graph, shapes: Mapping[str, Shape]) -> caffe_pb2.NetParameter:
    """The net that a graph (of the phase TEST) becomes for use; a net whose caller gives its images
    already stays as it is.

    The first blob of images that a data layer makes becomes the input, for one image; labels and
    what needs them (losses, accuracies) are left out. Where the last loss has a layer that
    predicts, as Softmax for SoftmaxWithLoss, that layer takes its place, and what does not lead to
    it is left out.

    Args:
        shapes: of the blobs of data layers.

    Raises:
        NetError: no data layer makes images (N, C, H, W).
    """
    layers = list(graph.filtered.layer)
    if any(REGISTRY[layer.type].source == "caller" for layer in layers):
        return graph.filtered
    made: set[str] = set()
    kept: list[caffe_pb2.LayerParameter] = []
    used = {name for layer in layers for name in (layer.name, *layer.top)}
    predicts = ""
    for layer in layers:
        entry = REGISTRY[layer.type]
        if not layer.bottom and entry.source == "files":
            kept += [_input(top, shapes[top]) for top in layer.top if _is_images(top, shapes, made)]
            made |= {each.top[0] for each in kept if each.type == "Input"}
        elif made.issuperset(layer.bottom):
            kept.append(_plain(layer))
            made |= set(layer.top)
        elif entry.prediction and layer.bottom[0] in made:
            predicts = free_name(PREDICTION, used)
            used.add(predicts)
            kept.append(_prediction(layer, entry.prediction, predicts))
            made.add(predicts)
    if not any(layer.type == "Input" for layer in kept):
        raise NetError("no data layer of the net makes images.", file=graph.file)
    if predicts:
        kept = _leading_to(predicts, kept)
    return caffe_pb2.NetParameter(name=graph.name, layer=kept)


def _is_images(top: str, shapes: Mapping[str, Shape], made: set[str]) -> bool:
    return len(shapes[top]) == IMAGE_AXES and not made


def _input(top: str, shape: Shape) -> caffe_pb2.LayerParameter:
    layer = caffe_pb2.LayerParameter(name=top, type="Input", top=[top])
    layer.input_param.shape.add(dim=[1, *shape[1:]])
    return layer


def _plain(layer: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(layer)
    copy.ClearField("include")
    copy.ClearField("exclude")
    return copy


def _prediction(loss: caffe_pb2.LayerParameter, kind: str, name: str) -> caffe_pb2.LayerParameter:
    made = caffe_pb2.LayerParameter(name=name, type=kind, bottom=[loss.bottom[0]], top=[name])
    message = REGISTRY[kind].message
    if message and loss.HasField(message):
        getattr(made, message).CopyFrom(getattr(loss, message))
    return made


def _leading_to(
    blob: str, layers: list[caffe_pb2.LayerParameter]
) -> list[caffe_pb2.LayerParameter]:
    needed, kept = {blob}, []
    for layer in reversed(layers):
        if needed.intersection(layer.top):
            needed |= set(layer.bottom)
            kept.append(layer)
    return kept[::-1]
