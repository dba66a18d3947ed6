"""MyCaffe's LSTMs of several layers: each becomes a layer of its own, with a Dropout in between."""

from __future__ import annotations

from collections.abc import Iterator

from moka.errors import SchemaError
from moka.schema import caffe_pb2

MOST_LAYERS = 1000


def with_single_layers(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with `num_layers` written out; `net` itself does not change.

    The layers are called after the one that they stand for, with /2, /3 ... behind; the last one
    makes its top.
    """
    if not any(_count(layer) > 1 for layer in net.layer):
        return net
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    del new.layer[:]
    for layer in net.layer:
        new.layer.extend(_written_out(layer) if _count(layer) > 1 else (layer,))
    return new


def _count(layer: caffe_pb2.LayerParameter) -> int:
    return layer.recurrent_param.num_layers if layer.HasField("recurrent_param") else 1


def _written_out(layer: caffe_pb2.LayerParameter) -> Iterator[caffe_pb2.LayerParameter]:
    count, ratio = _count(layer), layer.recurrent_param.dropout_ratio
    if not layer.bottom or not layer.top or count > MOST_LAYERS:
        raise SchemaError(
            f"num_layers: {count} layers, each on the other, need a bottom and a top, and are"
            f" {MOST_LAYERS} at most.",
            layer=layer.name,
            layer_type=layer.type,
        )
    source = layer.bottom[0]
    for k in range(1, count + 1):
        one = caffe_pb2.LayerParameter()
        one.CopyFrom(layer)
        one.recurrent_param.ClearField("num_layers")
        one.recurrent_param.ClearField("dropout_ratio")
        one.bottom[0] = source
        if k > 1:
            one.name = f"{layer.name}/{k}"
        if k < count:
            one.top[0] = source = f"{layer.name}/{k}"
        yield one
        if k < count and ratio:
            yield _dropout(layer, f"{source}/drop", source, ratio)
            source = f"{source}/drop"


def _dropout(
    layer: caffe_pb2.LayerParameter, name: str, bottom: str, ratio: float
) -> caffe_pb2.LayerParameter:
    between = caffe_pb2.LayerParameter(name=name, type="Dropout", bottom=[bottom], top=[name])
    between.include.extend(layer.include)
    between.exclude.extend(layer.exclude)
    between.dropout_param.dropout_ratio = ratio
    return between
