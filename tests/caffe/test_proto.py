from __future__ import annotations

import importlib

from google.protobuf import text_format

import caffe
from caffe.proto import caffe_pb2
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
