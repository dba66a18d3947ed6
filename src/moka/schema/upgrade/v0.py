"""V0, the form of 2013: `layers { layer { name: "c" type: "conv" ... } }` becomes V1.

All layer types shared one flat message. Here each type lists the fields it takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from moka.errors import SchemaError, did_you_mean
from moka.schema import caffe_pb2
from moka.schema.fields import is_repeated
from moka.schema.upgrade.step import Step

_V1 = caffe_pb2.V1LayerParameter


class _Type(NamedTuple):
    """A V0 layer type: its V1 type, the message its fields move to ("": the layer), the fields."""

    v1: caffe_pb2.V1LayerParameter.LayerType
    message: str = ""
    fields: Sequence[str] = ()


_FILLED = ("num_output", "biasterm", "weight_filler", "bias_filler")
_WINDOW = ("pad", "kernelsize", "stride")
_RECORDS = ("source", "batchsize")
_DETECTION = ("fg_threshold", "bg_threshold", "fg_fraction", "context_pad", "crop_mode")

_TYPES: Mapping[str, _Type] = MappingProxyType(
    {
        "accuracy": _Type(_V1.ACCURACY),
        "bnll": _Type(_V1.BNLL),
        "concat": _Type(_V1.CONCAT, "concat_param", ("concat_dim",)),
        "conv": _Type(_V1.CONVOLUTION, "convolution_param", (*_FILLED, *_WINDOW, "group")),
        "data": _Type(_V1.DATA, "data_param", (*_RECORDS, "rand_skip")),
        "dropout": _Type(_V1.DROPOUT, "dropout_param", ("dropout_ratio",)),
        "euclidean_loss": _Type(_V1.EUCLIDEAN_LOSS),
        "flatten": _Type(_V1.FLATTEN),
        "hdf5_data": _Type(_V1.HDF5_DATA, "hdf5_data_param", _RECORDS),
        "hdf5_output": _Type(_V1.HDF5_OUTPUT, "", ("hdf5_output_param",)),
        "im2col": _Type(_V1.IM2COL),
        "images": _Type(
            _V1.IMAGE_DATA,
            "image_data_param",
            (*_RECORDS, "rand_skip", "shuffle_images", "new_height", "new_width"),
        ),
        "infogain_loss": _Type(_V1.INFOGAIN_LOSS, "infogain_loss_param", ("source",)),
        "innerproduct": _Type(_V1.INNER_PRODUCT, "inner_product_param", _FILLED),
        "lrn": _Type(_V1.LRN, "lrn_param", ("local_size", "alpha", "beta", "k")),
        "multinomial_logistic_loss": _Type(_V1.MULTINOMIAL_LOGISTIC_LOSS),
        "pool": _Type(_V1.POOLING, "pooling_param", (*_WINDOW, "pool")),
        "relu": _Type(_V1.RELU),
        "sigmoid": _Type(_V1.SIGMOID),
        "softmax": _Type(_V1.SOFTMAX),
        "softmax_loss": _Type(_V1.SOFTMAX_LOSS),
        "split": _Type(_V1.SPLIT),
        "tanh": _Type(_V1.TANH),
        "window_data": _Type(
            _V1.WINDOW_DATA, "window_data_param", (*_RECORDS, *(f"det_{f}" for f in _DETECTION))
        ),
    }
)
_PADDING = "padding"  # pads for the layers behind it, with which it merges

_OF_EVERY_TYPE = ("name", "type", "blobs", "blobs_lr", "weight_decay")
_TRANSFORMATION = ("scale", "meanfile", "cropsize", "mirror")
_WITHOUT_EFFECT = ("new_num", "new_channels")  # no layer of any Caffe has read them
_NEW_NAMES = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "shuffle_images": "shuffle",
    **{f"det_{field}": field for field in _DETECTION},
}


def needed(net: caffe_pb2.NetParameter) -> bool:
    """Whether any layer is in the V0 form."""
    return any(layer.HasField("layer") for layer in net.layers)


def problems(net: caffe_pb2.NetParameter) -> list[str]:
    """One for each field that a layer's type has no use for.

    Raises:
        SchemaError: an unknown type.
    """
    return [
        f"Unknown parameter {field} for layer type {layer.layer.type}"
        f' (layer "{layer.layer.name}"); it is dropped.'
        for layer in net.layers
        if layer.HasField("layer") and layer.layer.type != _PADDING
        for field in _misplaced(layer.layer)
    ]


def upgrade(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy with V1 layers only; padding layers merge into what follows them.

    Raises:
        SchemaError: an unknown type; padding where nothing can take it.
    """
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    new.ClearField("layers")
    new.layers.extend(
        _layer(layer) if layer.HasField("layer") else layer for layer in _merge_padding(net)
    )
    return new


STEP = Step(
    attempt="Attempting to upgrade input file specified using deprecated V0LayerParameter",
    success="Successfully upgraded file specified using deprecated V0LayerParameter",
    needed=needed,
    upgrade=upgrade,
    problems=problems,
)


def _layer(old: caffe_pb2.V1LayerParameter) -> caffe_pb2.V1LayerParameter:
    v0 = old.layer
    new = caffe_pb2.V1LayerParameter()
    new.CopyFrom(old)
    new.ClearField("layer")
    kind = _type_of(v0)
    if v0.HasField("type"):
        new.type = kind.v1
    if v0.HasField("name"):
        new.name = v0.name
    for field in ("blobs", "blobs_lr", "weight_decay"):
        getattr(new, field).MergeFrom(getattr(v0, field))
    for descriptor, _ in v0.ListFields():
        if descriptor.name in _TRANSFORMATION:
            _move(descriptor, v0, new.transform_param)
        elif descriptor.name in kind.fields:
            _move(descriptor, v0, getattr(new, kind.message) if kind.message else new)
    return new


def _type_of(v0: caffe_pb2.V0LayerParameter) -> _Type:
    if not v0.HasField("type"):
        return _Type(_V1.NONE)
    if v0.type not in _TYPES:
        raise SchemaError(
            f"Unknown layer name: {v0.type} (known: {', '.join(_TYPES)}, {_PADDING}).",
            layer=v0.name,
            advice=did_you_mean(v0.type, _TYPES),
        )
    return _TYPES[v0.type]


def _misplaced(v0: caffe_pb2.V0LayerParameter) -> Iterator[str]:
    known = (*_OF_EVERY_TYPE, *_TRANSFORMATION, *_WITHOUT_EFFECT, *_type_of(v0).fields)
    for descriptor, _ in v0.ListFields():
        if descriptor.name not in known:
            yield descriptor.name


def _move(field: FieldDescriptor, old: Message, new: Message) -> None:
    """Set the field of today's name to the old one's value; where it is repeated now, once."""
    value, name = getattr(old, field.name), _NEW_NAMES.get(field.name, field.name)
    if field.message_type is not None:
        getattr(new, name).CopyFrom(value)
    elif is_repeated(new.DESCRIPTOR.fields_by_name[name]):
        getattr(new, name).append(value)
    else:
        setattr(new, name, value)


def _merge_padding(net: caffe_pb2.NetParameter) -> list[caffe_pb2.V1LayerParameter]:
    """The layers without padding layers: whoever read a padded blob pads by itself.

    Raises:
        SchemaError: a bottom that nothing makes; padding in front of anything but one bottom of
            a "conv" or "pool", or with other than one bottom and one top.
    """
    made_by: dict[str, caffe_pb2.V1LayerParameter | None] = dict.fromkeys(net.input)
    merged = []
    for layer in net.layers:
        new = caffe_pb2.V1LayerParameter()
        new.CopyFrom(layer)
        for j, bottom in enumerate(layer.bottom):
            if bottom not in made_by:
                raise SchemaError(f"Unknown blob input {bottom}.", layer=_name_of(layer))
            maker = made_by[bottom]
            if maker is not None and maker.layer.type == _PADDING:
                _check_padding(maker, layer)
                new.layer.pad = maker.layer.pad
                new.bottom[j] = maker.bottom[0]
        made_by.update(dict.fromkeys(layer.top, layer))
        if layer.layer.type != _PADDING:
            merged.append(new)
    return merged


def _check_padding(padding: caffe_pb2.V1LayerParameter, reader: caffe_pb2.V1LayerParameter) -> None:
    if reader.layer.type not in ("conv", "pool"):
        raise SchemaError(
            f'its bottom is padded by layer "{padding.layer.name}": only a "conv" or "pool" can'
            f' follow padding, this is a "{reader.layer.type}".',
            layer=_name_of(reader),
        )
    if len(reader.bottom) != 1:
        raise SchemaError(
            f'takes a single bottom behind padding layer "{padding.layer.name}", got'
            f" {len(reader.bottom)}.",
            layer=_name_of(reader),
        )
    if len(padding.bottom) != 1 or len(padding.top) != 1:
        raise SchemaError(
            f"a padding layer takes a single bottom and makes a single top, got"
            f" {len(padding.bottom)} and {len(padding.top)}.",
            layer=_name_of(padding),
        )


def _name_of(layer: caffe_pb2.V1LayerParameter) -> str:
    return layer.layer.name or layer.name
