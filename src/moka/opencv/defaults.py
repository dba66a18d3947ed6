"""Fields whose default is another in OpenCV than in Caffe."""

from __future__ import annotations

from moka.schema import caffe_pb2


def with_opencv_defaults(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """The net with OpenCV's defaults written out: prior boxes are clipped to the image, and their
    sizes may have fractions."""
    changed = caffe_pb2.NetParameter()
    changed.CopyFrom(net)
    for layer in changed.layer:
        if layer.type == "PriorBox":
            for name in ("clip", "fractional_sizes"):
                if not layer.prior_box_param.HasField(name):
                    setattr(layer.prior_box_param, name, True)
    return changed
