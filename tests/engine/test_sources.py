from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from moka.engine.sources import Sources
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
layer { name: "noise" type: "DummyData" top: "n" top: "one" dummy_data_param {
  shape { dim: 3 } shape { dim: 3 } data_filler { type: "gaussian" } data_filler { value: 1 } } }
layer { name: "two" type: "DummyData" top: "two" dummy_data_param {
  shape { dim: 3 } data_filler { value: 2 } } }
layer { name: "sum" type: "Eltwise" bottom: "n" bottom: "one" top: "sum" }
layer { name: "more" type: "Power" bottom: "two" top: "two" power_param { shift: 1 } }
layer { name: "y" type: "TanH" bottom: "x" top: "y" }
"""


def test_only_sources_that_make_something_anew_are_asked(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    assert [place.node.name for place in Sources(net).places] == ["noise"]


def test_a_batch_holds_the_tops_of_all_sources(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    sources = Sources(net)
    net.blobs["x"].data[...] = 7
    net.blobs["one"].data[...] = 5  # the user's from now on
    first, second = sources.next_batch(), sources.next_batch()
    assert set(first) == {"x", "n", "one", "two"}
    assert not torch.equal(first["n"], second["n"])
    assert first["one"].tolist() == second["one"].tolist() == [5, 5, 5]
    assert first["x"].tolist() == torch.full((1, 2, 3, 4), 7.0).tolist()


def test_images_are_channels_last(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    net.blobs["x"].data[...] = 7
    batch = Sources(net).next_batch()
    assert batch["x"].is_contiguous(memory_format=torch.channels_last)


def test_what_an_in_place_layer_overwrites_is_a_copy(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    batch = Sources(net).next_batch()
    batch["two"] += 1
    assert net.blobs["two"].data.tolist() == [2, 2, 2]


def test_the_shapes_of_inputs_are_carried_through(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    net.blobs["x"].reshape(5, 2, 3, 4)
    Sources(net).next_batch()
    assert net.blobs["y"].shape == (5, 2, 3, 4)
