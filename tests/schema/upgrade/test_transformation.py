from __future__ import annotations

import pytest

from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import net_needs_upgrade, transformation

KINDS = {
    "DATA": "data_param",
    "IMAGE_DATA": "image_data_param",
    "WINDOW_DATA": "window_data_param",
}
FIELDS = {"scale": "-0.5", "mean_file": '"m"', "crop_size": "0", "mirror": "false"}


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("field", FIELDS)
def test_each_field_moves_from_each_message(kind: str, field: str) -> None:
    old = net(f'layers {{ type: {kind} {KINDS[kind]} {{ source: "s" {field}: {FIELDS[field]} }} }}')
    before = old.SerializeToString()
    assert transformation.needed(old)
    new = transformation.upgrade(old)
    assert new == net(
        f'layers {{ type: {kind} {KINDS[kind]} {{ source: "s" }}'
        f" transform_param {{ {field}: {FIELDS[field]} }} }}"
    )
    assert old.SerializeToString() == before
    assert not transformation.needed(new)


def test_the_old_place_wins_and_other_fields_stay() -> None:
    old = net(
        "layers { type: DATA data_param { scale: 2 }"
        " transform_param { scale: 3 crop_size: 4 mean_value: 5 } }"
    )
    new = transformation.upgrade(old)
    assert new.layers[0].transform_param == caffe_pb2.TransformationParameter(
        scale=2, crop_size=4, mean_value=[5]
    )


def test_other_layers() -> None:
    """Data layers get the message whether they need it or not, as in BVLC; no others do."""
    old = net(
        "layers { type: DATA data_param { mirror: true } } layers { type: DATA data_param { } }"
        " layers { type: RELU data_param { mirror: true } }"
    )
    assert transformation.upgrade(old) == net(
        "layers { type: DATA data_param { } transform_param { mirror: true } }"
        " layers { type: DATA data_param { } transform_param { } }"
        " layers { type: RELU data_param { mirror: true } }"
    )


@pytest.mark.parametrize(
    "text",
    [
        'layers { type: DATA data_param { source: "s" } transform_param { scale: 2 } }',
        "layers { type: IMAGE_DATA data_param { scale: 2 } }",
        'layer { type: "Data" data_param { scale: 2 } }',
    ],
)
def test_not_needed(text: str) -> None:
    assert not transformation.needed(net(text))


def test_todays_form_is_left_alone() -> None:
    assert not net_needs_upgrade(net('layer { type: "Data" data_param { scale: 2 } }'))
