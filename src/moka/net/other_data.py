"""The same net for other data: its sources, its mean image and its number of classes."""

from __future__ import annotations

from collections.abc import Mapping

from moka.errors import NetError
from moka.graph.filter import filter_net
from moka.layers import REGISTRY
from moka.schema import caffe_pb2

Phase = caffe_pb2.Phase


def with_sources(
    net: caffe_pb2.NetParameter, sources: Mapping[Phase, str], mean_file: str = ""
) -> caffe_pb2.NetParameter:
    """A net whose layers that read files read others.

    Args:
        sources: the file, folder or database to read in a phase. Layers of other phases, and of
            both if one of them is missing here, stay as they are.
        mean_file: takes the place of the mean of those layers; "": they keep it.

    Raises:
        NetError: no layer reads files in a phase.
    """
    made = caffe_pb2.NetParameter()
    made.CopyFrom(net)
    for phase, source in sources.items():
        count = 0
        for layer in made.layer:
            if _is_read_in(layer, phase):
                getattr(layer, REGISTRY[layer.type].message or "").source = source
                count += 1
                if mean_file:
                    layer.transform_param.ClearField("mean_value")
                    layer.transform_param.mean_file = mean_file
        if not count:
            name = caffe_pb2.Phase.Name(phase)
            raise NetError(f"no layer reads files in phase {name}, so it cannot read {source}.")
    return made


def _is_read_in(layer: caffe_pb2.LayerParameter, phase: Phase) -> bool:
    entry = REGISTRY.get(layer.type)
    if entry is None or entry.source != "files" or not entry.message:
        return False
    if not hasattr(getattr(layer, entry.message), "source"):
        return False
    one = caffe_pb2.NetParameter(layer=[layer])
    return bool(filter_net(one, caffe_pb2.NetState(phase=phase)).layer)


def with_classes(net: caffe_pb2.NetParameter, classes: int) -> caffe_pb2.NetParameter:
    """A net whose last layers with outputs of their own choice have this many.

    Those are the layers with `num_output` and parameters behind which no other such layer comes.
    One that had another number gets another name, so that weights of the other form are not looked
    for: `fc8` becomes `fc8_10`.

    Raises:
        NetError: there is none.
    """
    made = caffe_pb2.NetParameter()
    made.CopyFrom(net)
    feeds: set[str] = set()  # blobs from which a layer with num_output is reached
    last: list[caffe_pb2.LayerParameter] = []
    for layer in reversed(made.layer):
        counts = _has_num_output(layer)
        if counts and not feeds.intersection(layer.top):
            last.append(layer)
        if counts or feeds.intersection(layer.top):
            feeds.update(layer.bottom)
    if not last:
        raise NetError("no layer has num_output, so the number of classes cannot be changed.")
    for layer in last:
        message = getattr(layer, REGISTRY[layer.type].message or "")
        if message.num_output != classes:
            message.num_output = classes
            layer.name = f"{layer.name}_{classes}"
    return made


def _has_num_output(layer: caffe_pb2.LayerParameter) -> bool:
    entry = REGISTRY.get(layer.type)
    if entry is None or not entry.message:
        return False
    return any(
        field.name == "num_output" for field, _ in getattr(layer, entry.message).ListFields()
    )
