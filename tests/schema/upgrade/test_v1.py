from __future__ import annotations

import logging

import pytest

from moka.errors import SchemaError
from moka.layers import REGISTRY
from moka.schema import caffe_pb2, parse_text
from moka.schema.fields import is_repeated
from moka.schema.upgrade import upgrade_net, v1

LAYER_TYPE = caffe_pb2.V1LayerParameter.LayerType


def net(text: str) -> caffe_pb2.NetParameter:
    return parse_text(text, caffe_pb2.NetParameter)


def test_needed() -> None:
    assert v1.needed(net("layers { }"))
    assert not v1.needed(net("layer { }"))


@pytest.mark.parametrize("old", [name for name in LAYER_TYPE.keys() if name != "NONE"])  # noqa: SIM118
def test_every_type(old: str) -> None:
    """Today's name is the old one without underscores, in capitals; but for one."""
    (layer,) = v1.upgrade(net(f"layers {{ type: {old} }}")).layer
    expected = "SOFTMAXWITHLOSS" if old == "SOFTMAX_LOSS" else old.replace("_", "")
    assert layer.type.upper() == expected


def test_types_that_exist_are_named_as_they_are() -> None:
    capitals = {name.upper(): name for name in REGISTRY}
    for name in v1.TYPES.values():
        assert capitals.get(name.upper(), name) == name


@pytest.mark.parametrize("text", ["", "type: NONE"])
def test_no_type(text: str) -> None:
    assert v1.upgrade(net(f'layers {{ name: "n" {text} }}')).layer[0].type == ""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("blobs_lr: 1 blobs_lr: 2", "param { lr_mult: 1 } param { lr_mult: 2 }"),
        ("weight_decay: 1 weight_decay: 0", "param { decay_mult: 1 } param { decay_mult: 0 }"),
        ("blobs_lr: 0 weight_decay: 0", "param { lr_mult: 0 decay_mult: 0 }"),
        (
            "blobs_lr: 3 weight_decay: 1 weight_decay: 2",
            "param { lr_mult: 3 decay_mult: 1 } param { decay_mult: 2 }",
        ),
        ('param: "w" param: ""', 'param { name: "w" } param { name: "" }'),
        (
            'param: "w" blob_share_mode: STRICT blob_share_mode: PERMISSIVE',
            'param { name: "w" share_mode: STRICT } param { share_mode: PERMISSIVE }',
        ),
        (
            'param: "w" blob_share_mode: PERMISSIVE blobs_lr: -1 weight_decay: 2 blobs_lr: 5',
            'param { name: "w" share_mode: PERMISSIVE lr_mult: -1 decay_mult: 2 }'
            " param { lr_mult: 5 }",
        ),
        ("blobs_lr: 1 blobs { num: 2 data: 3 }", "param { lr_mult: 1 } blobs { num: 2 data: 3 }"),
        (
            'name: "n" bottom: "a" bottom: "b" top: "c" loss_weight: 2 loss_weight: 0',
            'name: "n" bottom: "a" bottom: "b" top: "c" loss_weight: 2 loss_weight: 0',
        ),
        (
            'include { phase: TEST not_stage: "s" } include { } exclude { min_level: 1 }',
            'include { phase: TEST not_stage: "s" } include { } exclude { min_level: 1 }',
        ),
        ("relu_param { }", "relu_param { }"),
    ],
)
def test_fields(old: str, new: str) -> None:
    given = net(f'name: "n" force_backward: true layers {{ type: RELU {old} }}')
    before = given.SerializeToString()
    assert v1.upgrade(given) == net(
        f'name: "n" force_backward: true layer {{ type: "ReLU" {new} }}'
    )
    assert given.SerializeToString() == before


def test_every_message_is_taken_over() -> None:
    """With all its fields: each message is filled with what its type allows."""
    old = caffe_pb2.V1LayerParameter()
    messages = [field.name for field in old.DESCRIPTOR.fields if field.name.endswith("_param")]
    messages.remove("fork_param")
    for name in messages:
        getattr(old, name).SetInParent()
        for field in getattr(old, name).DESCRIPTOR.fields:
            if field.message_type is None and not is_repeated(field):
                setattr(getattr(old, name), field.name, field.default_value)
    (new,) = v1.upgrade(caffe_pb2.NetParameter(layers=[old])).layer
    for name in messages:
        assert new.HasField(name)
        assert getattr(new, name) == getattr(old, name)


def test_every_field_has_a_place() -> None:
    new = caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name
    for field in caffe_pb2.V1LayerParameter.DESCRIPTOR.fields:
        assert field.name in new or field.name in v1._PARAM_LISTS or field.name in OWN_PLACE


OWN_PLACE = {"layer", "fork_type", "fork_param"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "type: ROI_POOLING roi_pooling_param { pooled_h: 7 }",
            'type: "ROIPooling" roi_pooling_param { pooled_h: 7 }',
        ),
        ("type: CONVOLUTION3D", 'type: "Convolution3D"'),
        (
            "type: PRELU prelu_param { channel_shared: true }",
            'type: "PReLU" prelu_param { channel_shared: true }',
        ),
        ("type: COLINEAR_CONVOLUTION", 'type: "ColinearConvolution"'),
        (
            "type: CONVOLUTION batch_norm_param { eps: 1 }",
            'type: "Convolution" batch_norm_param { eps: 1 }',
        ),
    ],
)
def test_types_and_messages_of_forks(old: str, new: str) -> None:
    assert v1.upgrade(net(f"layers {{ {old} }}")) == net(f"layer {{ {new} }}")


def test_layer_and_layers_together_are_refused() -> None:
    both = r'^a: it has both 1 "layer" and 2 "layers" entries.*Write all of them as layer'
    for layers in ("layers { } layers { }", 'layers { layer { type: "relu" } } layers { }'):
        with pytest.raises(SchemaError, match=both):
            upgrade_net(net("layer { }" + layers), "a")


def test_all_steps_in_order(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    new = upgrade_net(
        net(
            'input: "x" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4'
            ' layers { layer { name: "c" type: "conv" num_output: 5 kernelsize: 1 blobs_lr: 2 }'
            '  bottom: "x" top: "c" }'
            " layers { type: DATA data_param { scale: 2 } }"
        ),
        "a.prototxt",
    )
    assert new == net(
        'layer { name: "input" type: "Input" top: "x"'
        "  input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }"
        ' layer { name: "c" type: "Convolution" bottom: "x" top: "c" param { lr_mult: 2 }'
        "  convolution_param { num_output: 5 kernel_size: 1 } }"
        ' layer { type: "Data" data_param { } transform_param { scale: 2 } }'
    )
    attempt = "Attempting to upgrade input file specified using deprecated {}: a.prototxt"
    success = "Successfully upgraded file specified using deprecated {}"
    assert caplog.messages == [
        attempt.format("V0LayerParameter"),
        success.format("V0LayerParameter"),
        attempt.format("transformation parameters"),
        success.format("data transformation parameters."),
        attempt.format("V1LayerParameter"),
        success.format("V1LayerParameter"),
        attempt.format("input fields"),
        success.format("input fields."),
    ]


SOFTMAX_LOSS = """layers { name: "loss" type: SOFTMAX_LOSS bottom: "x" bottom: "label"
  strict_dim: false softmaxloss_param { %s } }"""


def test_the_loss_options_of_deeplab() -> None:
    net = parse_text(SOFTMAX_LOSS % "ignore_label: 255", caffe_pb2.NetParameter)
    (layer,) = upgrade_net(net).layer
    assert layer.loss_param.ignore_label == 255
    assert [field.name for field, _ in layer.ListFields()] == [
        "name", "type", "bottom", "loss_param"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ('weight_source: "w.txt"', "with weight_source is not supported"),
        ("ignore_label: 0 ignore_label: 255", "with more than one ignore_label is not supported"),
    ],
)
def test_loss_options_of_deeplab_that_are_not_there(options: str, what: str) -> None:
    net = parse_text(SOFTMAX_LOSS % options, caffe_pb2.NetParameter)
    with pytest.raises(SchemaError, match=f'layer "loss": softmaxloss_param {what}'):
        upgrade_net(net)
