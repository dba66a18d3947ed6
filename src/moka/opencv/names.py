"""The names of OpenCV: every array is called after the layer that makes it.

In Caffe a layer in-place writes over its bottom, and both have one name. In OpenCV each layer has
an output of its own, which can be asked for. So the net is rewritten: the first top of a layer is
called as the layer is, the others `name.1`, `name.2`; no layer stays in-place.

A Convolution is the exception: OpenCV calls the layer itself after its top.
"""

from __future__ import annotations

from dataclasses import dataclass

from moka.free_name import free_name
from moka.layers import REGISTRY
from moka.schema import caffe_pb2


@dataclass(frozen=True)
class NamedLayer:
    """A layer as OpenCV lists it.

    Attributes:
        name: its name; of several layers with one name, the second is `name_1`, and so on.
        type: its type, as in the prototxt.
        message: the rewritten layer.
        bottoms: for each bottom the position of the layer that makes it; -1 for an input.
        tops_in_file: its tops, as in the prototxt.
    """

    name: str
    type: str
    message: caffe_pb2.LayerParameter
    bottoms: tuple[int, ...]
    tops_in_file: tuple[str, ...]

    @property
    def name_in_file(self) -> str:
        """Its name in the prototxt and in the model."""
        return self.message.name

    @property
    def outputs(self) -> tuple[str, ...]:
        """The blobs that it makes, in the rewritten net."""
        return tuple(self.message.top)


def name_after_layers(
    net: caffe_pb2.NetParameter,
) -> tuple[caffe_pb2.NetParameter, tuple[NamedLayer, ...]]:
    """Rewrite a net so that every blob has the name of its layer.

    Args:
        net: a net in today's form, with only the layers of its state; it does not change.

    Returns:
        The rewritten net, and its layers but for inputs, in the order of the file.
    """
    renamed = caffe_pb2.NetParameter()
    renamed.CopyFrom(net)
    made = {
        top: (top, -1) for layer in renamed.layer if is_filled_by_caller(layer) for top in layer.top
    }
    taken = set(made)
    layers: list[NamedLayer] = []
    names: set[str] = set()
    for layer in renamed.layer:
        if is_filled_by_caller(layer):
            continue
        name = free_name(_own_name(layer), names, first=1)
        names.add(name)
        sources = [made.get(bottom, (bottom, -1)) for bottom in layer.bottom]
        layer.bottom[:] = [blob for blob, _ in sources]
        old, tops = list(layer.top), list[str]()
        for k in range(len(old)):
            tops.append(free_name(f"{name}.{k}" if k else name, taken, first=1))
            taken.add(tops[-1])
        layer.top[:] = tops
        made.update((was, (top, len(layers))) for was, top in zip(old, tops, strict=True))
        bottoms = tuple(i for _, i in sources)
        layers.append(NamedLayer(name, layer.type, layer, bottoms, tuple(old)))
    return renamed, tuple(layers)


def _own_name(layer: caffe_pb2.LayerParameter) -> str:
    return layer.top[0] if layer.type == "Convolution" and layer.top else layer.name


def is_filled_by_caller(layer: caffe_pb2.LayerParameter) -> bool:
    """Whether the caller fills the layer's tops."""
    entry = REGISTRY.get(layer.type)
    return entry is not None and entry.source == "caller"
