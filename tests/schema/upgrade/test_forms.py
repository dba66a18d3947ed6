from __future__ import annotations

import pytest

from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import upgrade_net


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


@pytest.mark.parametrize(
    ("given", "filled_in"),
    [
        ('type: "Upsample" bottom: "x" bottom: "m"', "upsample_param { scale: 2 }"),
        ('type: "Upsample" bottom: "x" bottom: "m" upsample_param { scale: 3 }', ""),
        ('type: "Upsample" bottom: "x"', ""),
        (
            'type: "ROIPooling" roi_pooling_param { spatial_scale_h: 0.5 }',
            "roi_pooling_param { spatial_scale_h: 0.5 spatial_scale: 0.0625 }",
        ),
        ('type: "Reverse"', "reverse_param { axis: 0 }"),
        ('type: "Reverse" reverse_param { axis: 2 }', ""),
    ],
)
def test_defaults_of_a_form(given: str, filled_in: str) -> None:
    before = net(f"layer {{ {given} }}")
    (layer,) = upgrade_net(before).layer
    own_message = given.partition(" roi_")[0]
    assert layer == net(f"layer {{ {own_message if filled_in else given} {filled_in} }}").layer[0]
    assert before == net(f"layer {{ {given} }}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            'type: "Lstm" recurrent_param { num_output: 5 expose_hidden: false }',
            'type: "LSTM" recurrent_param { num_output: 5 expose_hidden: false }',
        ),
        (
            'type: "LSTM" inner_product_param { num_output: 5 bias_filler { value: 1 } }'
            " lstm_param { clipping_threshold: 0.1 }",
            'type: "Lstm" lstm_param { num_output: 5 bias_filler { value: 1 }'
            " clipping_threshold: 0.1 }",
        ),
        (
            'type: "LstmSimple" lstm_simple_param { num_output: 5 weight_filler { std: 2 } }',
            'type: "Lstm" lstm_param { num_output: 5 weight_filler { std: 2 } }',
        ),
        (
            'type: "DetectionOutput" bottom: "x" detection_output_param { biases: 1 biases: 2 }',
            'type: "YoloDetectionOutput" bottom: "x"'
            " yolo_detection_output_param { biases: 1 biases: 2 }",
        ),
        ('type: "DetectionOutput" bottom: "x"', 'type: "YoloDetectionOutput" bottom: "x"'),
        (
            'type: "DetectionOutput" detection_output_param { side: 3 keep_top_k: 2 }',
            'type: "DetectionOutput" detection_output_param { side: 3 keep_top_k: 2 }',
        ),
        (
            'type: "DetectionLoss" detection_loss_param { side: 7 }',
            'type: "YoloDetectionLoss" detection_loss_param { side: 7 }',
        ),
    ],
    ids=[
        "timesteps",
        "first",
        "streams",
        "output",
        "output without a message",
        "output of no form",
        "loss",
    ],
)
def test_a_form_with_a_type_of_its_own(given: str, expected: str) -> None:
    (layer,) = upgrade_net(net(f"layer {{ {given} }}")).layer
    assert layer == net(f"layer {{ {expected} }}").layer[0]


def test_batch_norms_take_the_nets_batch_of_statistics() -> None:
    upgraded = upgrade_net(
        net(
            'bn_stats_batch_size: 32 layer { type: "BatchNorm" } layer { type: "ReLU" }'
            ' layer { type: "BatchNorm" batch_norm_param { stats_batch_size: 8 } }'
        )
    )
    assert [layer.batch_norm_param.stats_batch_size for layer in upgraded.layer] == [32, 0, 8]
    assert not upgraded.HasField("bn_stats_batch_size")
