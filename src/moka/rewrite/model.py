"""A model as plain data: the messages of its layers, each with its parameters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from moka.graph import Graph, build_graph
from moka.graph.wiring import EntryLike
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.net import Net
from moka.net.outline import outline
from moka.schema import caffe_pb2
from moka.schema.fields import is_repeated
from moka.types import PathLike, Shape


@dataclass(frozen=True)
class WeightedLayer:
    """A layer's message, without blobs, and its parameters in Caffe's order.

    Nobody changes either; layers that share a parameter hold the same tensor.
    """

    config: caffe_pb2.LayerParameter
    blobs: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, config: caffe_pb2.LayerParameter, layer: Layer) -> WeightedLayer:
        """A layer of a net; the tensors are the net's own."""
        config = _copy(config)
        for name in ("blobs", "include", "exclude", "param", "loss_weight"):
            config.ClearField(name)
        return cls(config, tuple(blob.detach() for blob in layer.blobs))

    def with_blobs_named(self, bottoms: Collection[str], tops: Collection[str]) -> WeightedLayer:
        """The layer between other blobs."""
        config = _copy(self.config)
        del config.bottom[:]
        config.bottom.extend(bottoms)
        return replace(self, config=config).with_tops(tops)

    def with_tops(self, tops: Collection[str]) -> WeightedLayer:
        """The layer with other names for its tops."""
        config = _copy(self.config)
        del config.top[:]
        config.top.extend(tops)
        return replace(self, config=config)


@dataclass(frozen=True)
class Model:
    """The layers of one phase of a net in running order, without inserted Split layers.

    Attributes:
        frame: the rest of the net's message: name, phase and so on.
        layers: the layers.
        input_shapes: shapes of the tops whose data is given, by blob.
        file: where the net came from, for error messages.
    """

    frame: caffe_pb2.NetParameter
    layers: tuple[WeightedLayer, ...]
    input_shapes: Mapping[str, Shape]
    file: PathLike

    @classmethod
    def of(cls, net: Net) -> Model:
        """The model of a net; the tensors are the net's own."""
        rest = iter(net.places)
        layers = []
        for given in net.graph.filtered.layer:
            place = next(p for p in rest if (p.node.name, p.node.type) == (given.name, given.type))
            layers.append(WeightedLayer.of(given, place.layer))
        inputs = {
            top: tuple(net.blobs[top].shape)
            for place in net.places
            if is_given(place.node.entry)
            for top in place.node.tops
        }
        return cls(frame_of(net), tuple(layers), inputs, net.graph.file)

    def with_batch(self, size: int) -> Model:
        """The model with another first axis of its first input, and of all inputs of the same
        length there."""
        first = next((shape[0] for shape in self.input_shapes.values() if shape), None)
        shapes = {
            name: (size, *shape[1:]) if shape and shape[0] == first else shape
            for name, shape in self.input_shapes.items()
        }
        return replace(self, input_shapes=shapes)

    def with_half_weights(self) -> Model:
        """The model with all parameters rounded to float16, but for those that do not fit."""
        layers = [replace(x, blobs=tuple(map(_rounded, x.blobs))) for x in self.layers]
        return replace(self, layers=tuple(layers))

    def build(self, *, silent: bool = False) -> Net:
        """A net of this model on the CPU, which reads no files and shares the tensors."""
        return self._with_parameters(Net(self._graph(), torch.device("cpu"), silent=silent))

    def build_outline(self) -> Net:
        """A net of this model that takes no memory: its parameters are zeros without a place of
        their own (see `moka.net.outline`)."""
        nothing = torch.zeros((), device="cpu")
        layers = tuple(
            replace(layer, blobs=tuple(nothing.expand(blob.shape) for blob in layer.blobs))
            for layer in self.layers
        )
        return replace(self, layers=layers)._with_parameters(outline(self._graph()))

    def _graph(self) -> Graph:
        message = caffe_pb2.NetParameter()
        message.CopyFrom(self.frame)
        message.layer.extend(self._to_build(layer.config) for layer in self.layers)
        return build_graph(message, REGISTRY, file=self.file)

    def _with_parameters(self, net: Net) -> Net:
        """The net itself, with the model's tensors as its parameters."""
        rest = iter(net.places)
        for layer in self.layers:
            names = (layer.config.name, self._to_build(layer.config).type)
            place = next(p for p in rest if (p.node.name, p.node.type) == names)
            for k, blob in enumerate(layer.blobs):
                place.layer.share_weight(k, nn.Parameter(blob.cpu(), requires_grad=False))
        return net

    def _to_build(self, config: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
        """A layer's message in the form in which it is built: an Input for one whose data is
        given, and fillers that cost no time for one whose parameters are."""
        if all(top in self.input_shapes for top in config.top) and not config.bottom:
            made = caffe_pb2.LayerParameter(name=config.name, type="Input", top=config.top)
            for top in config.top:
                made.input_param.shape.add(dim=self.input_shapes[top])
            return made
        made = _copy(config)
        _fill_with_zeros(made)
        return made

    def readers(self) -> list[list[list[int]]]:
        """For each layer and each of its tops: the layers that read the value it makes."""
        found: list[list[list[int]]] = []
        latest: dict[str, list[int]] = {}
        for i, layer in enumerate(self.layers):
            for name in layer.config.bottom:
                latest[name].append(i)
            found.append([[] for _ in layer.config.top])
            latest.update(zip(layer.config.top, found[-1], strict=True))
        return found


def frame_of(net: Net) -> caffe_pb2.NetParameter:
    """A net's message without its layers."""
    frame = caffe_pb2.NetParameter(name=net.name)
    frame.state.CopyFrom(net.graph.param.state)
    return frame


def is_given(entry: EntryLike) -> bool:
    """Whether the data of layers of this type is given, instead of made by the layer."""
    return entry.source in ("caller", "files", "arrays")


def fits_half(values: Tensor) -> bool:
    """Whether float16 holds numbers as large as these."""
    return not values.numel() or bool(values.abs().max() <= torch.finfo(torch.float16).max)


def _rounded(values: Tensor) -> Tensor:
    return values.half().float() if fits_half(values) else values


def _copy(config: caffe_pb2.LayerParameter) -> caffe_pb2.LayerParameter:
    copy = caffe_pb2.LayerParameter()
    copy.CopyFrom(config)
    return copy


ZEROS = caffe_pb2.FillerParameter(type="constant", value=0)


def _fill_with_zeros(config: caffe_pb2.LayerParameter) -> None:
    """Replace the fillers of a layer with bottoms by cheap ones: its parameters are given."""
    if not config.bottom:
        return
    for message in _messages_in(config):
        for field, value in message.ListFields():
            if field.message_type is caffe_pb2.FillerParameter.DESCRIPTOR:
                if is_repeated(field):
                    continue
                value.CopyFrom(ZEROS)


def _messages_in(config: caffe_pb2.LayerParameter) -> Iterator[Message]:
    for field, value in config.ListFields():
        if field.message_type is not None and not is_repeated(field):
            yield value
