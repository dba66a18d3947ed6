from __future__ import annotations

import importlib

import pytest
from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
from moka.layers import REGISTRY
from moka.schema import caffe_pb2 as schema


def test_the_messages_are_the_projects_own() -> None:
    assert caffe_pb2 is schema
    assert caffe.proto.caffe_pb2 is schema


def test_every_way_to_import_them() -> None:
    assert importlib.import_module("caffe.proto.caffe_pb2") is schema


def test_a_net_by_hand() -> None:
    net = caffe_pb2.NetParameter(name="made")
    net.layer.add(name="a", type="ReLU", bottom=["x"], top=["y"])
    text = text_format.MessageToString(net)
    assert text_format.Parse(text, caffe_pb2.NetParameter()) == net


def test_phases() -> None:
    assert (caffe.TRAIN, caffe.TEST) == (caffe_pb2.TRAIN, caffe_pb2.TEST) == (0, 1)


@pytest.mark.parametrize(
    "names",
    [
        [field.name for field in caffe_pb2.LayerParameter.DESCRIPTOR.fields],
        dir(caffe_pb2.LayerParameter()),
    ],
    ids=["fields", "attributes"],
)
def test_the_type_of_a_message_leads_to_the_field_of_its_layer(names: list[str]) -> None:
    """The copies of net_spec.py in many scripts look up a layer type's field so."""
    layer = caffe_pb2.LayerParameter()
    field_of = {
        type(getattr(layer, name)).__name__.removesuffix("Parameter"): name
        for name in names
        if name.endswith("_param")
    }
    wrong = []
    for kind, entry in REGISTRY.items():
        if kind in field_of and kind != "LSTM":  # lstm_param makes it the Lstm of a fork
            read = {*entry.messages, *(option.of for option in entry.make.options)}
            wrong += [] if field_of[kind] in read else [kind]
    assert wrong == []
    assert field_of["Normalize"] == "norm_param"  # SSD's, not that of another fork's form
    assert field_of["InnerProduct"] == "inner_product_param"
