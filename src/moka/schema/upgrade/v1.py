"""V1, the form of 2014: `layers { type: CONVOLUTION ... }` becomes `layer { type: "Convolution" }`.

The lists `param` (names), `blob_share_mode`, `blobs_lr` and `weight_decay` become one `param` entry
for each blob.
"""

from __future__ import annotations

from moka.errors import SchemaError
from moka.schema import caffe_pb2
from moka.schema.fields import is_repeated
from moka.schema.fork_types import todays_type
from moka.schema.upgrade.step import Step

TYPES = {
    "NONE": "",
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}
# V1's lists and the field of a `param` entry that each of their elements becomes.
_PARAM_LISTS = {
    "param": "name",
    "blob_share_mode": "share_mode",
    "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}


def needed(net: caffe_pb2.NetParameter) -> bool:
    """Whether the net has `layers`."""
    return bool(net.layers)


def upgrade(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy in which each of `layers` is a `layer`.

    Raises:
        SchemaError: the net has both.
    """
    if net.layer:
        raise SchemaError(
            f'it has both {len(net.layer)} "layer" and {len(net.layers)} "layers" entries, today\'s'
            " form and one of 2014 or before.",
            advice='Write all of them as layer { type: "Convolution" ... }.',
        )
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    new.ClearField("layers")
    new.layer.extend(_layer(layer) for layer in net.layers)
    return new


STEP = Step(
    attempt="Attempting to upgrade input file specified using deprecated V1LayerParameter",
    success="Successfully upgraded file specified using deprecated V1LayerParameter",
    needed=needed,
    upgrade=upgrade,
)


def _layer(old: caffe_pb2.V1LayerParameter) -> caffe_pb2.LayerParameter:
    new = caffe_pb2.LayerParameter()
    for field, value in old.ListFields():
        if field.name == "fork_type":
            new.type = todays_type(value)
        elif field.name == "fork_param":
            new.MergeFrom(value)
        elif field.name == "type":
            new.type = TYPES[caffe_pb2.V1LayerParameter.LayerType.Name(old.type)]
        elif field.name in _PARAM_LISTS:
            _spread(value, new, _PARAM_LISTS[field.name])
        elif is_repeated(field):
            getattr(new, field.name).extend(value)
        elif field.message_type is not None:
            getattr(new, field.name).CopyFrom(value)
        else:
            setattr(new, field.name, value)
    if new.HasField("softmaxloss_param"):
        _rename_softmaxloss(new)
    return new


def _rename_softmaxloss(layer: caffe_pb2.LayerParameter) -> None:
    """Turn DeepLab v1's options of a softmax loss into loss_param, as far as that has them.

    Raises:
        SchemaError: several labels to ignore, or weights from a file.
    """
    old = layer.softmaxloss_param
    if len(old.ignore_label) > 1 or old.weight_source:
        what = "weight_source" if old.weight_source else "more than one ignore_label"
        raise SchemaError(
            f'layer "{layer.name}": softmaxloss_param with {what} is not supported.',
            advice="Give loss_param { class_weight: ... } instead of a file of weights.",
        )
    if old.ignore_label:
        layer.loss_param.ignore_label = old.ignore_label[0]
    layer.ClearField("softmaxloss_param")


def _spread(values: list[str | int | float], layer: caffe_pb2.LayerParameter, field: str) -> None:
    """Give the field of the layer's k-th `param` entry the k-th value."""
    while len(layer.param) < len(values):
        layer.param.add()
    for spec, value in zip(layer.param, values, strict=False):
        setattr(spec, field, value)
