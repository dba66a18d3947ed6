"""Fill in what differs between the forms of a fork's layer, and what a net sets for its layers.

Layers then find every value in their own message. See `moka.schema.forms`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from moka.schema import caffe_pb2
from moka.schema.fields import is_repeated
from moka.schema.forms import FORMS, form_of

STORED_AS = ("forward_type", "backward_type")  # NVCaffe's types of blobs and their gradients


_in_half: ContextVar[bool] = ContextVar("in half", default=False)


@contextmanager
def nets_in_half() -> Iterator[None]:
    """Inside this context a net keeps its blobs and their gradients in half precision, unless it
    says otherwise: as if it had default_forward_type and default_backward_type FLOAT16."""
    token = _in_half.set(True)
    try:
        yield
    finally:
        _in_half.reset(token)


def with_forms(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """Return the net with these values filled in; `net` itself does not change."""
    given = [name for name in STORED_AS if net.HasField(f"default_{name}")]
    defaults = {name: getattr(net, f"default_{name}") for name in given}
    if _in_half.get():
        defaults = dict.fromkeys(STORED_AS, caffe_pb2.FLOAT16) | defaults
    if not (net.bn_stats_batch_size or defaults or any(a.type in FORMS for a in net.layer)):
        return net
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    for layer in new.layer:
        _fill_in(layer)
        if layer.type == "BatchNorm" and net.bn_stats_batch_size:
            param = layer.batch_norm_param
            if not param.stats_batch_size:
                param.stats_batch_size = net.bn_stats_batch_size
        for name, value in defaults.items():
            if not layer.HasField(name):
                setattr(layer, name, value)
    for name in ("bn_stats_batch_size", *(f"default_{name}" for name in given)):
        new.ClearField(name)
    return new


def _fill_in(layer: caffe_pb2.LayerParameter) -> None:
    form = form_of(layer)
    if form is None:
        return
    message = getattr(layer, FORMS[layer.type].message)
    for name, value in form.defaults.items():
        if is_repeated(message.DESCRIPTOR.fields_by_name[name]):
            if not getattr(message, name):
                getattr(message, name).extend(value)
        elif not message.HasField(name):
            setattr(message, name, value)
    if form.becomes is not None:
        _rename(layer, FORMS[layer.type].message, *form.becomes)


def _rename(layer: caffe_pb2.LayerParameter, old: str, layer_type: str, new: str) -> None:
    """Give a layer another type, and move its message to another field.

    A message with a field that the new one lacks belongs to neither form, and stays as it is.
    """
    given, target = getattr(layer, old), getattr(layer, new)
    fields = given.ListFields()
    if any(found.name not in target.DESCRIPTOR.fields_by_name for found, _ in fields):
        return
    layer.type = layer_type
    if new == old:
        return
    for found, value in fields:
        if is_repeated(found):
            getattr(target, found.name).extend(value)
        elif found.message_type is not None:
            getattr(target, found.name).CopyFrom(value)
        else:
            setattr(target, found.name, value)
    layer.ClearField(old)
