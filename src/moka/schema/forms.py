"""Which form of a layer a net means, where forks gave one name several meanings.

The fields that are set decide, and then the count of bottoms. `caffe.proto` holds the fields of
all forms in one message, without the defaults that differ; those stand here, and the upgrade of a
net fills them in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from moka.schema import caffe_pb2


@dataclass(frozen=True)
class Form:
    """One meaning of a layer type.

    Attributes:
        name: what layers ask for.
        forks: where it comes from.
        fields: a field of the message that only this form has means this form.
        fits: whether a layer that has none of those fields means it.
        defaults: values of fields that are not set.
        becomes: the type that stands for this form behind the upgrade, and the field of
            LayerParameter that its message moves to; None: type and message stay.
    """

    name: str
    forks: str
    fields: frozenset[str] = frozenset()
    fits: Callable[[caffe_pb2.LayerParameter], bool] = lambda layer: True
    defaults: Mapping[str, object] = field(default_factory=dict)
    becomes: tuple[str, str] | None = None


@dataclass(frozen=True)
class Forms:
    """The forms of a layer type, the most telling first, and the message that decides."""

    message: str
    forms: tuple[Form, ...]


def _form(
    name: str,
    forks: str,
    fields: str = "",
    fits: Callable[[caffe_pb2.LayerParameter], bool] = lambda layer: True,
    becomes: tuple[str, str] | None = None,
    **defaults: object,
) -> Form:
    return Form(name, forks, frozenset(fields.split()), fits, defaults, becomes)


def _never(layer: caffe_pb2.LayerParameter) -> bool:
    return False


def _has_other_message(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.HasField("normalize_param")


def _unpools_by_kernel(layer: caffe_pb2.LayerParameter) -> bool:
    return layer.unpooling_param.unpool >= caffe_pb2.UnPoolingParameter.MAX


FORMS: Mapping[str, Forms] = MappingProxyType(
    {
        "BN": Forms(
            "bn_param",
            (
                _form("moving_average", "CTPN", "axis", _never, decay=0.05),
                _form(
                    "moving_average",
                    "ParseNet",
                    "var_eps moving_average decay across_spatial",
                    _never,
                ),
                _form(
                    "slope_bias",
                    "PSPNet, yjxiong, caffe-windows",
                    "slope_filler bias_filler momentum frozen eps engine",
                ),
                _form("scale_shift", "SegNet, ENet", "scale_filler shift_filler bn_mode"),
            ),
        ),
        "Upsample": Forms(
            "upsample_param",
            (
                _form(
                    "mask",
                    "SegNet, ENet",
                    "scale_h scale_w pad_out_h pad_out_w upsample_h upsample_w",
                    lambda layer: len(layer.bottom) > 1,
                    scale=2.0,
                ),
                _form("stride", "Ascend", "stride stride_h stride_w", _never, stride=2),
                _form("nearest", "MobileNet-YOLO"),
            ),
        ),
        "UnPooling": Forms(  # V1's UNPOOLING is both
            "unpooling_param",
            (
                _form(
                    "kernel",
                    "DeconvNet",
                    "kernel_size kernel_h kernel_w stride stride_h stride_w pad pad_h pad_w"
                    " unpool_size unpool_h unpool_w",
                    _unpools_by_kernel,
                    ("Unpooling", "unpooling_param"),
                ),
                _form("out_kernel", "ParseNet"),
            ),
        ),
        "DetectionOutput": Forms(
            "detection_output_param",
            (
                _form(
                    "yolo",
                    "caffe-yolov2",
                    "side num_box coords biases label_map_file nms_threshold",
                    lambda layer: len(layer.bottom) == 1,
                    ("YoloDetectionOutput", "yolo_detection_output_param"),
                ),
                _form(
                    "refine", "RefineDet", "objectness_score", lambda layer: len(layer.bottom) > 3
                ),
                _form("ssd", "SSD"),
            ),
        ),
        "DetectionLoss": Forms(
            "detection_loss_param",
            (
                _form(
                    "yolo",
                    "caffe-yolo",
                    "side num_class num_object object_scale noobject_scale class_scale"
                    " coord_scale sqrt constriant",
                    _never,
                    ("YoloDetectionLoss", "detection_loss_param"),
                ),
                _form("field", "MS-CNN"),
            ),
        ),
        "Normalize": Forms(
            "norm_param",
            (
                _form("plain", "caffe-windows", fits=_has_other_message),
                _form("scaled", "SSD, ParseNet"),
            ),
        ),
        "ROIPooling": Forms(
            "roi_pooling_param",
            (
                _form(
                    "height_and_width",
                    "Ascend",
                    "spatial_scale_h spatial_scale_w",
                    _never,
                    spatial_scale=0.0625,
                ),
                _form("one_scale", "Fast R-CNN, R-FCN, MS-CNN, Intel"),
            ),
        ),
        "VideoData": Forms(
            "video_data_param",
            (
                _form("segments", "yjxiong", "num_segments modality name_pattern", _never),
                _form(
                    "clips", "video-caffe", "source root_folder new_length", _never, batch_size=1
                ),
                _form("camera", "SSD"),
            ),
        ),
        "Lstm": Forms(
            "recurrent_param",
            (
                _form(
                    "timesteps",
                    "MyCaffe",
                    "num_output weight_filler bias_filler debug_info expose_hidden",
                    _never,
                    ("LSTM", "recurrent_param"),
                ),
                _form("streams", "caffe-lstm and CTPN"),
            ),
        ),
        "LSTM": Forms(
            "inner_product_param",
            (
                _form(
                    "streams",
                    "the first caffe-lstm",
                    "num_output",
                    _never,
                    ("Lstm", "lstm_param"),
                ),
                _form("timesteps", "BVLC Caffe"),
            ),
        ),
        "LstmAttention": Forms(
            "lstm_attention_param",
            (_form("plain", "MyCaffe", becomes=("LSTM", "recurrent_param")),),
        ),
        "LstmSimple": Forms(
            "lstm_simple_param",
            (_form("streams", "MyCaffe", becomes=("Lstm", "lstm_param")),),
        ),
        "Reverse": Forms("reverse_param", (_form("axes", "CTPN, Ascend", axis=(0,)),)),
    }
)


def form_of(layer: caffe_pb2.LayerParameter) -> Form | None:
    """The form that a layer means; None for types that have one meaning only."""
    forms = FORMS.get(layer.type)
    if forms is None:
        return None
    names = {f.name for f, _ in getattr(layer, forms.message).ListFields()}
    for form in forms.forms:
        if names & form.fields:
            return form
    return next(form for form in forms.forms if form.fits(layer))
