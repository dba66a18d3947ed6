"""`scale`, `mean_file`, `crop_size` and `mirror` of V1's data layers move to `transform_param`.

Only of V1's: in today's `layer { ... }` BVLC Caffe does not read them in the old place.
"""

from __future__ import annotations

from moka.schema import caffe_pb2
from moka.schema.upgrade.step import Step

FIELDS = ("scale", "mean_file", "crop_size", "mirror")
_V1 = caffe_pb2.V1LayerParameter
_MESSAGES = {
    _V1.DATA: "data_param",
    _V1.IMAGE_DATA: "image_data_param",
    _V1.WINDOW_DATA: "window_data_param",
}


def needed(net: caffe_pb2.NetParameter) -> bool:
    """Whether a data layer has any of the fields in the old place."""
    return any(
        getattr(layer, _MESSAGES[layer.type]).HasField(field)
        for layer in net.layers
        if layer.type in _MESSAGES
        for field in FIELDS
    )


def upgrade(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """A copy with the fields in their new place; a value in the old one wins, as in BVLC."""
    new = caffe_pb2.NetParameter()
    new.CopyFrom(net)
    for layer in new.layers:
        if layer.type in _MESSAGES:
            old = getattr(layer, _MESSAGES[layer.type])
            layer.transform_param.SetInParent()  # BVLC gives it to every data layer
            for field in FIELDS:
                if old.HasField(field):
                    setattr(layer.transform_param, field, getattr(old, field))
                    old.ClearField(field)
    return new


STEP = Step(
    attempt="Attempting to upgrade input file specified using deprecated transformation parameters",
    success="Successfully upgraded file specified using deprecated data transformation parameters.",
    needed=needed,
    upgrade=upgrade,
)
