"""Fields that OpenCV reads otherwise than Caffe."""

from __future__ import annotations

from moka.schema import caffe_pb2


def with_opencv_defaults(net: caffe_pb2.NetParameter) -> caffe_pb2.NetParameter:
    """The net with OpenCV's defaults written out: prior boxes are clipped to the image, their sizes
    may have fractions, and their offsets come in pairs."""
    changed = caffe_pb2.NetParameter()
    changed.CopyFrom(net)
    for layer in changed.layer:
        if layer.type == "PriorBox":
            param = layer.prior_box_param
            paired = ("paired_offsets",) if param.offset_w and param.offset_h else ()
            for name in ("clip", "fractional_sizes", *paired):
                if not param.HasField(name):
                    setattr(param, name, True)
    return changed
