"""Layers that a program writes as classes of its own and registers: `cv2.dnn_registerLayer`.

Such a class has `__init__(self, params, blobs)`, `getMemoryShapes(self, inputs)`, which returns the
shapes of its outputs for those of its inputs, and `forward(self, inputs)`, which returns arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from moka.errors import NetError
from moka.layers.python import TensorLayer
from moka.opencv.errors import OpenCVError, raises_cv2_error
from moka.schema import blobproto, caffe_pb2
from moka.schema.fields import enum_of, is_repeated
from moka.types import Array, Shape

Blobs = Iterable[caffe_pb2.BlobProto]

_registered: dict[str, type[Any]] = {}
REGISTERED: Mapping[str, type[Any]] = MappingProxyType(_registered)


@raises_cv2_error
def dnn_registerLayer(type: str, layer: type[Any]) -> None:
    """Let a class compute the layers of a type, also of one that Caffe has.

    Nets take it that are read later, or have been read but have not run yet. The class that was
    registered last counts.
    """
    if not isinstance(type, str) or not callable(layer):
        raise OpenCVError(f"dnn_registerLayer takes a type and a class, got {type!r}, {layer!r}.")
    _registered[type] = layer


def dnn_unregisterLayer(type: str) -> None:
    """Let nets that are read from now on compute a type as usual again."""
    _registered.pop(type, None)


def use_registered(
    layers: Iterable[caffe_pb2.LayerParameter], blobs_of: Callable[[str], Blobs]
) -> None:
    """Turn the layers whose type is registered into `Registered` layers.

    Args:
        layers: they are changed.
        blobs_of: the learned arrays of a layer, by its name.
    """
    for layer in layers:
        if layer.type in _registered:
            layer.python_param.Clear()
            layer.python_param.module = __name__
            layer.python_param.layer = Registered.__name__
            layer.python_param.param_str = layer.type
            layer.type = TensorLayer.entry.type
            layer.blobs.extend(blobs_of(layer.name))


class Registered(TensorLayer):
    """A layer of a registered class, whose type is the `param_str`."""

    def setup(self, *bottom_shapes: Shape) -> None:
        blobs = [blobproto.to_array(blob) for blob in self.config.blobs]
        for k, blob in enumerate(blobs):
            self.register_parameter(f"blob{k}", nn.Parameter(torch.from_numpy(blob)))
        columns = [blob.reshape(-1, 1) if blob.ndim < 2 else blob for blob in blobs]
        self._object = _registered[self.param_str](params_of(self.config), columns)
        self._shapes: tuple[Shape, ...] = ()

    def top_shapes(self, *bottom_shapes: Shape) -> list[Shape]:
        self._shapes = bottom_shapes
        made = self._object.getMemoryShapes(list(bottom_shapes))
        return [tuple(int(n) for n in shape) for shape in made]

    def forward(self, *bottoms: Tensor) -> list[Tensor]:
        shapes = tuple(tuple(bottom.shape) for bottom in bottoms)
        wanted = self.top_shapes(*shapes)
        inputs = [np.ascontiguousarray(bottom.detach().cpu().numpy()) for bottom in bottoms]
        made = [np.asarray(array, np.float32) for array in self._object.forward(inputs)]
        self._check_arrays(made, wanted)
        device = bottoms[0].device if bottoms else None
        return [torch.from_numpy(np.array(array, order="C")).to(device) for array in made]

    def _check_arrays(self, made: Sequence[Array], wanted: Sequence[Shape]) -> None:
        found = [array.shape for array in made]
        if found != list(wanted):
            raise NetError(
                f"{type(self._object).__qualname__}.forward returned arrays of the shapes {found},"
                f" its getMemoryShapes says {list(wanted)}."
            )


def params_of(layer: caffe_pb2.LayerParameter) -> dict[str, Any]:
    """The options of a layer as OpenCV hands them over: of all its messages in one dict, numbers,
    texts, names of enum values, 0 or 1, and tuples of them."""
    found: dict[str, Any] = {}
    for field, value in layer.ListFields():
        if field.name.endswith("_param") and isinstance(value, Message):
            found |= _flat(value)
    if layer.python_param.module == __name__:
        for name in ("module", "layer", "param_str"):
            found.pop(name, None)
    return found


def _flat(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if is_repeated(field) else (value,):
                found |= _flat(part)
            continue
        values = [_plain(field, each) for each in (value if is_repeated(field) else (value,))]
        found[field.name] = values[0] if len(values) == 1 else tuple(values)
    return found


def _plain(field: Any, value: Any) -> Any:
    if field.enum_type is not None:
        return enum_of(field).values_by_number[value].name
    return int(value) if isinstance(value, bool) else value
