from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moka.data.place import Share
from moka.errors import MokaError, NetError
from moka.layers.source import Source
from moka.net import build_net
from moka.schema import caffe_pb2, parse_text

if TYPE_CHECKING:
    from tests.conftest import NetMaker

FILES = """
layer { name: "db" type: "Data" top: "data" top: "label"
  data_param { source: "no/such/database" batch_size: 2 } }
layer { name: "more" type: "HDF5Data" top: "more" hdf5_data_param { source: "no" batch_size: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "y"
  inner_product_param { num_output: 4 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "label" top: "loss" }
"""
SHAPES = {"data": (2, 3), "label": (2,), "more": (2, 5)}


def test_sources_whose_shapes_are_given_open_no_file(make_net: NetMaker) -> None:
    net = make_net(FILES, caffe_pb2.TRAIN, given_shapes=SHAPES)
    assert {name: tuple(net.blobs[name].shape) for name in SHAPES} == SHAPES
    assert [node.type for node in net.graph.nodes[:2]] == ["Data", "HDF5Data"]
    given = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    assert net(**given)["loss"].item() == pytest.approx(1.3863, abs=1e-4)  # log(4)
    with pytest.raises(MokaError, match=r'layer "db" \(Data\): no data given for data, label'):
        net()


def test_sources_of_which_one_top_is_not_given_are_made(make_net: NetMaker) -> None:
    with pytest.raises(MokaError, match="no/such/database"):
        make_net(FILES, given_shapes={"data": (2, 3), "more": (2, 5)})


def test_other_sources_are_made_as_ever(make_net: NetMaker) -> None:
    text = """
    layer { name: "w" type: "Parameter" top: "w" parameter_param { shape { dim: 3 } } }
    layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 3 }
      data_filler { value: 2 } } }
    layer { name: "sum" type: "Eltwise" bottom: "w" bottom: "d" top: "sum" }
    """
    net = make_net(text, given_shapes={"data": (2, 3)})
    assert net()["sum"].tolist() == [2, 2, 2]
    assert [blob.owner for blob in net.learnable] == [(0, 0)]


@pytest.mark.parametrize("share", [Share(), Share(1, 3)])
def test_sources_are_told_their_share(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch, share: Share
) -> None:
    told: list[tuple[torch.device, Share]] = []
    monkeypatch.setattr(Source, "attach", lambda _, device, share: told.append((device, share)))
    text = 'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 3 } } }'
    net = make_net(text, caffe_pb2.TRAIN, share=share)
    assert told == [(net.device, share)]


CHAIN = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 3 } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "tanh" type: "TanH" bottom: "y" top: "y" }
layer { name: "relu2" type: "ReLU" bottom: "y" top: "y" }
layer { name: "cut" type: "TanH" bottom: "y" top: "z" propagate_down: false }
layer { name: "loss" type: "EuclideanLoss" bottom: "z" bottom: "t" top: "loss" }
"""


def test_what_a_place_says(make_net: NetMaker) -> None:
    net = make_net(CHAIN, caffe_pb2.TRAIN)
    places = {place.node.name: place for place in net.places}
    assert [place.index for place in net.places] == list(range(7))
    assert [place.layer for place in net.places] == net.layers
    assert places["relu2"].observers == ((0, places["relu"].layer),)
    assert not any(places[name].observers for name in ("relu", "tanh", "cut"))
    assert {name: set(place.freed) for name, place in places.items() if place.freed} == {
        "ip": {"x"},
        "cut": {"y"},
        "loss": {"t", "z", "loss"},
    }
    assert {name: place.detached for name, place in places.items() if place.detached} == {
        "cut": (0,)
    }
    assert [name for name, place in places.items() if place.marks.layer] == ["cut", "loss"]


def test_forced_gradients_reach_all_but_labels(make_net: NetMaker) -> None:
    text = CHAIN.replace("EuclideanLoss", "SoftmaxWithLoss").replace(
        'top: "t" input_param { shape { dim: 2 dim: 3 } }',
        'top: "t" input_param { shape { dim: 2 dim: 3 } shape { dim: 2 } }',
    )
    net = make_net("force_backward: true" + text, caffe_pb2.TRAIN)
    detached = {p.node.name: p.detached for p in net.places if p.detached}
    assert detached == {"loss": (1,)}


def test_a_layer_may_keep_its_gradient_from_a_shared_parameter() -> None:
    text = """
    layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
    layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
      inner_product_param { num_output: 3 bias_term: false weight_filler { type: "gaussian" } } }
    layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" %s }
      inner_product_param { num_output: 3 bias_term: false weight_filler { type: "gaussian" } } }
    layer { name: "sum" type: "Reduction" bottom: "b" top: "loss" loss_weight: 1 }
    """
    x = torch.rand(4, 3, generator=torch.Generator().manual_seed(1))
    gradients = []
    for option in ("", "param_propagate_down: false"):
        param = parse_text(text % option, caffe_pb2.NetParameter)
        net = build_net(param, caffe_pb2.TRAIN)
        (weight,) = net.parameters()
        with torch.no_grad():
            weight.copy_(torch.arange(9.0).reshape(3, 3) / 9)
        net(x=x)["loss"].backward()
        assert weight.grad is not None
        gradients.append(weight.grad)
    through = torch.ones(4, 3) @ weight.detach()  # what layer b passes down
    torch.testing.assert_close(gradients[1], through.T @ x)
    assert not torch.allclose(gradients[0], gradients[1])


@pytest.mark.parametrize("scale", ["inf", "nan"])
def test_a_size_that_is_not_finite(make_net: NetMaker, scale: str) -> None:
    text = (
        'layer { name: "in" type: "Input" top: "x"'
        " input_param { shape { dim: 1 dim: 1 dim: 2 dim: 2 } } }"
        ' layer { name: "up" type: "Upsample" bottom: "x" top: "y"'
        f" upsample_param {{ scale: {scale} }} }}"
    )
    with pytest.raises(NetError, match=r'layer "up" \(Upsample\): '):
        make_net(text)


def test_a_bottom_without_values(make_net: NetMaker) -> None:
    net = make_net(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 0 } } }'
        ' layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 2 } } }'
        ' layer { name: "it" type: "MarginInnerProduct" bottom: "x" bottom: "y" top: "z"'
        ' margin_inner_product_param { num_output: 3 weight_filler { type: "gaussian" } } }'
    )
    with pytest.raises(NetError, match=r'layer "it" .*: it cannot take a bottom without values'):
        net(x=torch.zeros(2, 0), y=torch.zeros(2))
