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
            'type: "DetectionOutput" detection_output_param { side: 13 }',
            "detection_output_param { side: 13 num_classes: 20 confidence_threshold: 0.01 }",
        ),
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
    own_message = given.partition(" detection_")[0].partition(" roi_")[0]
    assert layer == net(f"layer {{ {own_message if filled_in else given} {filled_in} }}").layer[0]
    assert before == net(f"layer {{ {given} }}")


def test_batch_norms_take_the_nets_batch_of_statistics() -> None:
    upgraded = upgrade_net(
        net(
            'bn_stats_batch_size: 32 layer { type: "BatchNorm" } layer { type: "ReLU" }'
            ' layer { type: "BatchNorm" batch_norm_param { stats_batch_size: 8 } }'
        )
    )
    assert [layer.batch_norm_param.stats_batch_size for layer in upgraded.layer] == [32, 0, 8]
    assert not upgraded.HasField("bn_stats_batch_size")
