"""What is in a `caffe.Net`: its blobs, layers and parameters by name and by number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from caffe.vectors import BlobVec, DtypeVec, IntVec, LayerVec, StringVec
from moka import net as moka_net
from moka.blob import Blob
from moka.layers import REGISTRY
from moka.layers.base import Layer
from moka.layers.python import ArrayLayer
from moka.schema import caffe_pb2


def layer_type_list() -> StringVec:
    """All layer types, in alphabetical order."""
    return StringVec(sorted(REGISTRY))


class NetLayer(ArrayLayer):
    """A layer of a net that is not written in Python: its type and its parameters."""

    def __init__(self, config: caffe_pb2.LayerParameter, blobs: BlobVec) -> None:
        super().__init__(config)
        self.type = config.type
        self.phase = config.phase
        self._caffe_blobs = blobs


def _face_of(layer: Layer, blobs: BlobVec) -> Any:
    """The object that pycaffe's users get for a layer."""
    return layer.users_object or NetLayer(layer.config, blobs)


class NetContents:
    """The part of `caffe.Net` that gives access to blobs, layers and parameters.

    Attributes:
        name: the net's name in its prototxt; a program may give it another.
    """

    def _show(self, net: moka_net.Net) -> None:
        self.name = net.name
        self._net = net
        self._nodes = net.graph.nodes

    def __repr__(self) -> str:
        return repr(self._net)

    def _repr_html_(self) -> str:
        return self._net._repr_html_()

    @cached_property
    def blobs(self) -> OrderedDict[str, Blob]:
        """Blob name to Blob, in the order of the net."""
        return OrderedDict(self._net.blobs)

    @cached_property
    def params(self) -> OrderedDict[str, BlobVec]:
        """Layer name to its parameters, only layers that have some."""
        found = ((node.name, self._net.layer_blobs(i)) for i, node in enumerate(self._nodes))
        return OrderedDict((name, blobs) for name, blobs in found if blobs)

    @cached_property
    def layers(self) -> LayerVec:
        """For each layer its `type` and `blobs`; for a Python layer the user's own object."""
        return LayerVec(
            _face_of(place.layer, self._net.layer_blobs(place.index)) for place in self._net.places
        )

    @cached_property
    def layer_dict(self) -> OrderedDict[str, Any]:
        """Layer name to layer."""
        return OrderedDict(zip(self._layer_names, self.layers, strict=True))

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs that the user fills."""
        return list(self._net.graph.inputs)

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs that no layer reads, in alphabetical order."""
        return list(self._net.graph.outputs)

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Layer name to the names of its tops."""
        return OrderedDict((n.name, list(n.tops)) for n in self._nodes)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Layer name to the names of its bottoms."""
        return OrderedDict((n.name, list(n.bottoms)) for n in self._nodes)

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Blob name to its factor in the loss, 0 for most."""
        weights = dict(self._net.loss_tops)
        return OrderedDict((name, weights.get(name, 0.0)) for name in self._net.blobs)

    # What programs in use find here, though pycaffe gives it private names.

    @property
    def _layer_names(self) -> StringVec:
        return StringVec(node.name for node in self._nodes)

    @property
    def _blob_names(self) -> StringVec:
        return StringVec(self.blobs)

    @property
    def _blob_names_index(self) -> dict[str, int]:
        """Blob name to its place in `_blobs`, as the Caffe of deepsim has it."""
        return {name: i for i, name in enumerate(self.blobs)}

    @property
    def _blobs(self) -> BlobVec:
        return BlobVec(self.blobs.values())

    @property
    def _blob_loss_weights(self) -> DtypeVec:
        return DtypeVec(self.blob_loss_weights.values())

    @property
    def _inputs(self) -> IntVec:
        return self._ids(self.inputs)

    @property
    def _outputs(self) -> IntVec:
        return self._ids(self.outputs)

    def _top_ids(self, layer: int) -> IntVec:
        """Indices of the blobs that layer number `layer` makes."""
        return self._ids(self._nodes[layer].tops)

    def _bottom_ids(self, layer: int) -> IntVec:
        """Indices of the blobs that layer number `layer` reads."""
        return self._ids(self._nodes[layer].bottoms)

    def _ids(self, names: Sequence[str]) -> IntVec:
        known = list(self.blobs)
        return IntVec(known.index(name) for name in names)
