"""What the tests of model_libs share: nets on images, their layers as written, their shapes."""

from __future__ import annotations

import caffe
from caffe import layers as L
from moka.graph import build_graph
from moka.layers import REGISTRY
from moka.net import Net
from moka.net.outline import outline
from moka.schema import caffe_pb2, parse_text
from moka.types import Shape

Layers = dict[str, caffe_pb2.LayerParameter]


def on_images(height: int, width: int) -> caffe.NetSpec:
    """A net that has two images so far."""
    net = caffe.NetSpec()
    net.data = L.Input(shape=dict(dim=[2, 3, height, width]))
    return net


def layers_of(net: caffe.NetSpec) -> Layers:
    """The layers by name."""
    return {layer.name: layer for layer in net.to_proto().layer}


def layer(text: str) -> caffe_pb2.LayerParameter:
    return parse_text(text, caffe_pb2.LayerParameter)


def built(net: caffe.NetSpec, phase: caffe_pb2.Phase = caffe.TEST) -> Net:
    """The net without memory."""
    return outline(build_graph(net.to_proto(), REGISTRY, phase=phase))


def shapes_of(net: caffe.NetSpec, phase: caffe_pb2.Phase = caffe.TEST) -> dict[str, Shape]:
    """The shapes of the blobs by name."""
    return {name: tuple(blob.shape) for name, blob in built(net, phase).blobs.items()}


def weights_of(net: Net) -> dict[str, list[Shape]]:
    """The shapes of the parameters by layer."""
    pairs = zip(net.graph.nodes, net.layers, strict=True)
    return {n.name: [tuple(w.shape) for w in layer.weights] for n, layer in pairs if layer.weights}
