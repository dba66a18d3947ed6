"""Where forks gave one name several meanings, the fields that are set decide, then the bottoms."""

from __future__ import annotations

import pytest

from moka.schema import caffe_pb2, parse_text
from moka.schema.forms import FORMS, form_of

CASES = [
    ("BN", "", "slope_bias"),
    ("BN", "bn_param { frozen: true }", "slope_bias"),
    ("BN", "bn_param { slope_filler { } bias_filler { } momentum: 0.95 }", "slope_bias"),
    ("BN", "bn_param { bias_filler { } }", "slope_bias"),
    ("BN", "bn_param { scale_filler { } shift_filler { } }", "scale_shift"),
    ("BN", "bn_param { bn_mode: INFERENCE }", "scale_shift"),
    ("BN", "bn_param { scale_filler { } shift_filler { } var_eps: 1e-3 }", "moving_average"),
    ("BN", "bn_param { moving_average: true axis: 1 }", "moving_average"),
    ("Upsample", 'bottom: "x" upsample_param { scale: 2 }', "nearest"),
    ("Upsample", 'bottom: "x" bottom: "m" upsample_param { scale: 2 }', "mask"),
    ("Upsample", 'bottom: "x" bottom: "m"', "mask"),
    ("Upsample", 'bottom: "x" upsample_param { upsample_h: 9 upsample_w: 9 }', "mask"),
    ("Upsample", 'bottom: "x" upsample_param { scale: 1 stride: 3 }', "stride"),
    ("UnPooling", "unpooling_param { kernel_size: 2 unpool_size: 8 }", "kernel"),
    ("UnPooling", "unpooling_param { unpool: TILE }", "kernel"),
    ("UnPooling", "unpooling_param { unpool: REP out_kernel_size: 2 }", "out_kernel"),
    ("DetectionOutput", 'bottom: "a" bottom: "b" bottom: "c"', "ssd"),
    ("DetectionOutput", "detection_output_param { num_classes: 21 code_type: CENTER_SIZE }", "ssd"),
    ("DetectionOutput", 'bottom: "a"', "yolo"),
    ("DetectionOutput", "detection_output_param { biases: 1 biases: 2 }", "yolo"),
    ("DetectionOutput", 'bottom: "a" bottom: "b" bottom: "c" bottom: "d" bottom: "e"', "refine"),
    ("DetectionOutput", "detection_output_param { objectness_score: 0.1 }", "refine"),
    ("DetectionLoss", "detection_loss_param { side: 7 }", "yolo"),
    ("DetectionLoss", "detection_loss_param { cls_num: 2 field_h: 40 }", "field"),
    ("Normalize", "norm_param { across_spatial: false }", "scaled"),
    ("Normalize", "", "scaled"),
    ("Normalize", 'normalize_param { normalize_type: "L1" }', "plain"),
    ("Normalize", "normalize_param { }", "plain"),
    ("ROIPooling", "roi_pooling_param { pooled_h: 7 pooled_w: 7 }", "one_scale"),
    ("ROIPooling", "roi_pooling_param { spatial_scale_h: 0.1 }", "height_and_width"),
    ("VideoData", "video_data_param { device_id: 1 }", "camera"),
    ("VideoData", 'video_data_param { source: "list" new_length: 16 }', "clips"),
    ("VideoData", 'video_data_param { source: "list" num_segments: 3 }', "segments"),
    ("Reverse", "", "axes"),
    ("LSTM", "recurrent_param { num_output: 5 }", "timesteps"),
    ("LSTM", "inner_product_param { num_output: 5 }", "streams"),
    ("Lstm", "lstm_param { num_output: 5 }", "streams"),
    ("Lstm", "recurrent_param { num_output: 5 }", "timesteps"),
    ("LstmAttention", "lstm_attention_param { num_output: 5 }", "plain"),
    ("LstmSimple", "lstm_simple_param { num_output: 5 }", "streams"),
]


@pytest.mark.parametrize(("layer_type", "text", "name"), CASES)
def test_form_of(layer_type: str, text: str, name: str) -> None:
    layer = parse_text(f'type: "{layer_type}" {text}', caffe_pb2.LayerParameter)
    form = form_of(layer)
    assert form is not None
    assert form.name == name


def test_other_types_have_one_form() -> None:
    assert form_of(caffe_pb2.LayerParameter(type="Convolution")) is None


@pytest.mark.parametrize("layer_type", sorted(FORMS))
def test_the_table_names_fields_that_exist(layer_type: str) -> None:
    forms = FORMS[layer_type]
    message = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name[forms.message].message_type
    assert message is not None
    for form in forms.forms:
        assert form.fields | set(form.defaults) <= {field.name for field in message.fields}
    assert {form.name for form in forms.forms} == {n for t, _, n in CASES if t == layer_type}
