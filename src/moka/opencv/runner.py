"""The Moka net behind a `moka.opencv.Net`: it is built for the shapes that the user gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import torch
from torch import Tensor

from moka.engine.channels_last import channels_last
from moka.errors import MokaError, WeightsError
from moka.graph import Node, build_graph
from moka.inference.fast import Fast
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.net import Net
from moka.opencv.custom import REGISTERED, use_registered
from moka.opencv.names import NamedLayer
from moka.schema import caffe_pb2
from moka.schema.blobproto import from_array
from moka.types import PathLike, Shape
from moka.weights import copy_weights

CPU = torch.device("cpu")


class Runner:
    """Builds a net, loads its weights and runs a part of it.

    The shapes of inputs in a prototxt need not be true, or there: OpenCV goes by the data alone.
    If the net cannot be built for the shapes of the file, it is built when data has come.

    Args:
        param: the net, with blobs named after layers.
        layers: its layers but for inputs.
        file: where the net came from, for messages.
        model: the weights; None: there are none.
        model_file: where they came from, for messages.

    Attributes:
        inputs: the names of the inputs.
        declared_shapes: the shapes that the file gives inputs.
        without_weights: names of layers whose weights are still to come; they cannot run.

    Raises:
        NetError: layers that are not connected, an unknown type.
    """

    def __init__(
        self,
        param: caffe_pb2.NetParameter,
        layers: Sequence[NamedLayer],
        file: PathLike,
        model: caffe_pb2.NetParameter | None,
        model_file: PathLike,
    ) -> None:
        self._model = model
        self._param = param
        use_registered(param.layer, self._taken_from_model)
        self._graph = build_graph(param, REGISTRY, phase=caffe_pb2.TEST, file=file)
        self._model_file = model_file
        self._device = CPU
        self._net: Net | None = None
        self._fault: MokaError | None = None
        self._shapes: dict[str, Shape] = {}
        self._checked: tuple[dict[str, Shape], int] | None = None
        self._has_run = False
        self._end = {top: i + 1 for i, node in enumerate(self._graph.nodes) for top in node.tops}
        self._index = _indices(self._graph.nodes, layers)
        self.inputs = self._graph.inputs
        self.declared_shapes = _declared_shapes(self._graph.nodes)
        self.without_weights: set[str] = set()
        self._try_shapes({})

    @property
    def net(self) -> Net:
        """The net. Raises MokaError if it fits neither the shapes of the file nor the data."""
        if self._net is None:
            raise self._fault or AssertionError("a net that was not built has a fault")
        return self._net

    def layer(self, position: int) -> Layer:
        """The layer at a position among all layers but inputs."""
        return self.net.places[self._index[position]].layer

    def fit(self, shapes: Mapping[str, Shape]) -> None:
        """Build the net for these shapes of its inputs, if it has not been built yet."""
        if self._net is None and dict(shapes) != self._shapes:
            self._try_shapes(shapes)

    def move(self, device: torch.device) -> None:
        """Run on this device from now on."""
        if self._net is not None and device != self._device:
            moved = Net(self._graph, device, given_shapes=self._shapes)
            moved.load_state_dict(self._net.state_dict())
            self._run_from_now_on(moved)
        self._device = device

    def prepare(self, blob: Tensor) -> Tensor:
        """An input where the net runs."""
        return blob.to(self._device)

    def run(
        self,
        given: Mapping[str, Tensor],
        wanted: Collection[str],
        see: Callable[[str, Tensor], object] | None = None,
    ) -> dict[str, Tensor]:
        """The wanted blobs; layers after the last of them do not run.

        Args:
            given: the inputs, as `prepare` makes them.
            see: called with each blob's name when it has been made; if a program makes them all at
                once (`moka.inference`), only with the wanted ones.

        Raises:
            MokaError: the net does not take the inputs, or a layer has no weights.
        """
        shapes = {name: tuple(blob.shape) for name, blob in given.items()}
        self._use_layers_registered_since()
        self.fit(shapes)
        end = max(self._end[name] for name in wanted)
        if self._checked != (shapes, end):
            self.net.infer_shapes(shapes, end=end)
            self._checked = shapes, end
        self._check_weights(end)
        self._has_run = True
        with torch.no_grad():
            made = self._fast.run(given, wanted)
            if made is None:
                laid_out = {name: channels_last(blob) for name, blob in given.items()}
                made = self.net.propagate(laid_out, wanted, see, end=end)
                self._fast.learn(given, wanted)
                return made
        for name in wanted:
            if see is not None:
                see(name, made[name])
        return made

    def _use_layers_registered_since(self) -> None:
        """Until the first pass, programs may register classes for layers of this net."""
        if self._has_run or not any(layer.type in REGISTERED for layer in self._param.layer):
            return
        old = self._net
        use_registered(self._param.layer, self._taken_from_model if old is None else _blobs_of(old))
        self._graph = build_graph(
            self._param, REGISTRY, phase=caffe_pb2.TEST, file=self._graph.file
        )
        if old is None:
            self._try_shapes(self._shapes)
        else:
            net = Net(self._graph, self._device, given_shapes=self._shapes)
            net.load_state_dict(old.state_dict(), strict=False)
            self._run_from_now_on(net)

    def _taken_from_model(self, name: str) -> list[caffe_pb2.BlobProto]:
        """The blobs of a layer, which the model then lacks."""
        stored = [] if self._model is None else self._model.layer
        for layer in [each for each in stored if each.name == name]:
            stored.remove(layer)
            return list(layer.blobs)
        return []

    def _check_weights(self, end: int) -> None:
        if not self.without_weights:
            return
        for node in self._graph.nodes[:end]:
            if node.name in self.without_weights:
                raise WeightsError(
                    "the model has no weights for this layer.",
                    file=self._graph.file,
                    layer=node.name,
                    layer_type=node.type,
                    advice="Give a .caffemodel that has them, or set them with setParam.",
                )

    def _try_shapes(self, shapes: Mapping[str, Shape]) -> None:
        try:
            net = Net(self._graph, self._device, given_shapes=shapes)
            given = {node.name for node in self._graph.nodes if node.layer.blobs}
            self.without_weights = set(self._weigh(net)) - given
        except MokaError as fault:
            self._fault = fault
        else:
            self._model = None
            self._run_from_now_on(net)
        self._shapes = dict(shapes)

    def _run_from_now_on(self, net: Net) -> None:
        """Use this net, of whose parameters nobody else has got hold."""
        net.write_no_results()
        for layer in net.layers:
            layer.exposures = 0
        self._net, self._fast = net, Fast(net)

    def _weigh(self, net: Net) -> list[str]:
        """Copy the weights into the net; returns the names of layers that get none."""
        model = caffe_pb2.NetParameter() if self._model is None else self._model
        return copy_weights(net, model, self._model_file, say_what_is_missing=False)


def _blobs_of(net: Net) -> Callable[[str], list[caffe_pb2.BlobProto]]:
    """Gives the learned arrays of a layer by its name."""
    layers = dict(net.named_layers())
    return lambda name: [from_array(blob.numpy(force=True)) for blob in layers[name].blobs]


def _declared_shapes(nodes: Sequence[Node]) -> dict[str, Shape]:
    """The shapes of inputs by name; one shape of a layer is that of all its tops."""
    found: dict[str, Shape] = {}
    for node in nodes:
        if node.entry.source == "caller":
            shapes = [tuple(shape.dim) for shape in node.layer.input_param.shape]
            shapes *= len(node.tops) if len(shapes) == 1 else 1
            found.update(zip(node.tops, shapes, strict=False))
    return found


def _indices(nodes: Sequence[Node], layers: Sequence[NamedLayer]) -> list[int]:
    """For each layer its place in the graph, which has splits and inputs too."""
    places = iter(enumerate(nodes))
    names = ((layer.name_in_file, layer.message.type) for layer in layers)
    return [next(i for i, node in places if (node.name, node.type) == each) for each in names]
