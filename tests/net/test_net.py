from __future__ import annotations

import pickle
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests.played_gpu import playing_a_gpu

from moka.errors import NetError
from moka.net import parameter_count
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

SMALL = """
name: "small"
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "y" top: "y" }
layer { name: "prob" type: "Softmax" bottom: "y" top: "prob" }
"""

LENET = """
layer { name: "mnist" type: "DummyData" top: "data" top: "label"
  dummy_data_param { shape { dim: 64 dim: 1 dim: 28 dim: 28 } shape { dim: 64 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 20 kernel_size: 5 } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 50 kernel_size: 5 } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2"
  pooling_param { kernel_size: 2 stride: 2 } }
"""


def test_called_with_its_inputs_a_net_returns_its_outputs(
    make_net: NetMaker, device: torch.device
) -> None:
    net = make_net(SMALL)
    x = torch.randn(2, 3)
    outputs = net(x=x)
    assert list(outputs) == ["prob"]
    assert outputs["prob"].device.type == device.type
    weight, bias = (w.detach().cpu().numpy() for w in net.layers[1].weights)
    for n in range(2):
        scores = [
            max(0.0, bias[m] + sum(weight[m, k] * float(x[n, k]) for k in range(3)))
            for m in range(4)
        ]
        wanted = np.exp(scores) / np.exp(scores).sum()
        # Single precision.
        np.testing.assert_allclose(outputs["prob"][n].detach().cpu(), wanted, rtol=1e-5)


def test_the_first_layers_alone(make_net: NetMaker) -> None:
    net = make_net(SMALL)
    x = torch.randn(5, 3)
    whole, part = net.propagate({"x": x}), net.propagate({"x": x}, end=2)
    assert list(whole) == ["x", "y", "prob"]
    assert list(part) == ["x", "y"]
    assert torch.equal(part["y"].relu(), whole["y"])
    assert net.infer_shapes({"x": (7, 3)}, end=2) == {"x": (7, 3), "y": (7, 4)}
    assert net.infer_shapes({"x": (7, 3)})["prob"] == (7, 4)


def test_a_call_leaves_the_blobs_alone(make_net: NetMaker) -> None:
    net = make_net(SMALL)
    net(x=torch.ones(2, 3))
    assert {b.data_memory.state.name for b in net.blobs.values()} == {"UNINITIALIZED"}


def test_a_call_takes_any_batch(make_net: NetMaker) -> None:
    assert make_net(SMALL)(x=torch.ones(5, 3))["prob"].shape == (5, 4)


def test_a_net_is_differentiable(make_net: NetMaker) -> None:
    net = make_net("force_backward: true" + SMALL)
    x = torch.randn(2, 3, requires_grad=True)
    net(x=x)["prob"][:, 0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert net.layers[1].weights[0].grad is not None


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["z"], r"no input is named z; inputs are x\.$"),
        (["X"], r'no input is named X; inputs are x\. Did you mean "x"\?'),
        ([], r'layer "in" .*no data given for x'),
    ],
)
def test_wrong_inputs(make_net: NetMaker, names: list[str], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_net(SMALL)(**{name: torch.ones(2, 3) for name in names})


def test_the_nearest_input_is_named(make_net: NetMaker) -> None:
    net = make_net(LENET)
    with pytest.raises(NetError, match=r'named dta; inputs are data, label\. .* "data"\?'):
        net(dta=torch.ones(2, 1, 28, 28), label=torch.zeros(2))


TWO = """
layer { name: "in" type: "Input" top: "a" top: "b" input_param { shape { dim: 3 } } }
layer { name: "d" type: "DummyData" top: "c" dummy_data_param { shape { dim: 3 } } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "y"
  eltwise_param { coeff: 1 coeff: 10 coeff: 100 } }
"""


def test_inputs_without_names_come_in_their_order(make_net: NetMaker) -> None:
    x = torch.randn(2, 3)
    net = make_net(SMALL)
    assert torch.equal(net(x)["prob"], net(x=x)["prob"])
    one, two = torch.ones(3), torch.full((3,), 2.0)
    net = make_net(TWO)
    assert net(one, two)["y"].tolist() == [21] * 3
    assert net(one, b=two, c=one)["y"].tolist() == [121] * 3


@pytest.mark.parametrize(("count", "names"), [(3, ""), (1, "a"), (2, "b")])
def test_an_input_is_given_once(make_net: NetMaker, count: int, names: str) -> None:
    x = torch.ones(3)
    with pytest.raises(NetError, match=f"got {count} tensors? without a name .* inputs a, b"):
        make_net(TWO)(*[x] * count, **dict.fromkeys(names, x))


def test_tops_of_a_data_layer_may_be_given(make_net: NetMaker) -> None:
    net = make_net(LENET)
    assert net(data=torch.ones(2, 1, 28, 28), label=torch.zeros(2))["pool2"].shape == (2, 50, 4, 4)


def test_memory_for_data_counts_every_top_once_as_caffe_does(make_net: NetMaker) -> None:
    """The tutorial's numbers: after the data, conv1 and pool1."""
    layers = LENET.strip().split("\nlayer ")
    counts = []
    for n in (1, 2, 3):
        counts.append(make_net("\nlayer ".join(layers[:n])).memory.counted)
    assert counts == [200960, 3150080, 3887360]


def test_memory_of_in_place_tops_counts_again(make_net: NetMaker) -> None:
    assert make_net(SMALL).memory.counted == 4 * (6 + 8 + 8 + 8)


def test_names(make_net: NetMaker) -> None:
    net = make_net(SMALL)
    assert net.name == "small"
    assert list(net.blobs) == ["x", "y", "prob"]
    assert [(name, type(layer).__name__) for name, layer in net.named_layers()] == [
        ("in", "Input"),
        ("ip", "InnerProduct"),
        ("relu", "ReLU"),
        ("prob", "Softmax"),
    ]
    assert [name for name, _ in net.sources] == ["in"]
    assert parameter_count(net) == 4 * 3 + 4


def test_state_dict_round_trip(make_net: NetMaker) -> None:
    first, second = make_net(SMALL), make_net(SMALL)
    x = torch.randn(2, 3)
    assert not torch.equal(first(x=x)["prob"], second(x=x)["prob"])
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(x=x)["prob"], second(x=x)["prob"])


def test_keys_of_a_state_dict_have_the_names_of_layers(make_net: NetMaker) -> None:
    net = make_net(SMALL.replace('"ip"', '"fc.1"'))
    assert list(net.state_dict()) == ["fc_1.weight", "fc_1.bias"]
    assert [name for name, _ in net.named_children()] == ["in", "fc_1", "relu", "prob"]
    assert net.get_submodule("fc_1") is net.layers[1]


def test_a_layer_may_have_the_name_of_a_method(make_net: NetMaker) -> None:
    net = make_net(SMALL.replace('"ip"', '"forward"').replace('"relu"', '"blobs"'))
    assert list(net.state_dict()) == ["forward_1.weight", "forward_1.bias"]
    assert list(net(torch.ones(2, 3))) == ["prob"]
    assert list(net.blobs) == ["x", "y", "prob"]


def test_a_copy_is_a_net_of_its_own(make_net: NetMaker, device: torch.device) -> None:
    net = make_net(SMALL)
    array = net.layer_blobs(1)[0].data
    copied = deepcopy(net)
    x = torch.randn(2, 3)
    assert torch.equal(copied(x)["prob"], net(x)["prob"])
    assert copied.get_submodule("ip") is copied.places[1].layer is not net.places[1].layer
    assert copied.parameter_of(copied.learnable[0]) is next(copied.parameters())
    before = copied.layer_blobs(1)[0].data.copy()
    array[...] += 1
    assert np.array_equal(copied.layer_blobs(1)[0].data, before)
    copied.layer_blobs(1)[0].data[...] = 0
    copied.layer_blobs(1)[1].data[...] = 0
    with copied.parameters_in_use():
        assert copied(x)["prob"].unique().tolist() == [0.25]


def test_a_net_cannot_be_pickled(make_net: NetMaker) -> None:
    with pytest.raises(NetError, match="a Net cannot be pickled: make it in each process"):
        pickle.dumps(make_net(SMALL))


CONVOLUTIONS = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 1 dim: 9 dim: 9 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def test_a_net_is_exported_by_its_position(make_net: NetMaker) -> None:
    net = make_net(CONVOLUTIONS)
    x = torch.randn(2, 1, 9, 9)
    batch = torch.export.Dim("batch")
    exported = torch.export.export(
        net, (x,), dynamic_shapes={"arrays": ({0: batch},)}, strict=False
    )
    assert "conv.weight" in exported.state_dict
    x = torch.randn(5, 1, 9, 9)
    torch.testing.assert_close(exported.module()(x)["prob"], net(x)["prob"])


def test_shared_parameters_are_one(make_net: NetMaker) -> None:
    shared = SMALL.replace('bottom: "x" top: "y"', 'bottom: "x" top: "y" param { name: "w" }')
    net = make_net(
        shared + 'layer { name: "ip2" type: "InnerProduct" bottom: "x" top: "z" param { name: "w" }'
        " inner_product_param { num_output: 4 } }"
    )
    ip, ip2 = (layer for name, layer in net.named_layers() if name.startswith("ip"))
    assert ip.weights[0] is ip2.weights[0]
    assert ip.weights[1] is not ip2.weights[1]
    assert parameter_count(net) == 12 + 4 + 4
    index = [node.name for node in net.graph.nodes].index("ip")
    net.layer_blobs(index)[0].data[...] = 3
    assert (ip2.weights[0] == 3).all()


def test_permissive_sharing_reads_one_memory_in_two_shapes(make_net: NetMaker) -> None:
    net = make_net("""
        layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }
        layer { name: "up" type: "InnerProduct" bottom: "x" top: "y" param { name: "w" }
          inner_product_param { num_output: 2 bias_term: false } }
        layer { name: "down" type: "InnerProduct" bottom: "y" top: "z"
          param { name: "w" share_mode: PERMISSIVE }
          inner_product_param { num_output: 3 bias_term: false } }
    """)
    up, down = net.layer_blobs(1)[0], net.layer_blobs(2)[0]
    assert [tuple(up.shape), tuple(down.shape)] == [(2, 3), (3, 2)]
    up.data[...] = [[1, 2, 3], [4, 5, 6]]
    assert down.data.tolist() == [[1, 2], [3, 4], [5, 6]]
    # (1, 1, 1) -> (6, 15) by rows of up -> rows of down.
    assert net(x=torch.ones(1, 3))["z"].tolist() == [[36, 78, 120]]


@pytest.mark.parametrize(
    "layer",
    [
        'type: "InnerProduct" inner_product_param { num_output: 4 }',
        'type: "Tile" tile_param { tiles: 2 }',
    ],
)
def test_an_in_place_layer_keeps_the_number_of_elements(make_net: NetMaker, layer: str) -> None:
    text = SMALL.replace('type: "ReLU"', layer.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(NetError, match=r'"relu" .*cannot run in-place: it makes .* in \'y\'. Give'):
        make_net(text)
    make_net(text.replace("num_output: 5", "num_output: 4").replace("tiles: 2", "tiles: 1"))


@pytest.mark.parametrize("kind", ["Input", "Parameter", "DummyData"])
def test_a_shape_that_cannot_be_names_its_layer(make_net: NetMaker, kind: str) -> None:
    fields = {"DummyData": "dummy_data_param"}.get(kind, f"{kind.lower()}_param")
    text = f'layer {{ name: "in" type: "{kind}" top: "x" {fields} {{ shape {{ dim: -1 }} }} }}'
    with pytest.raises(NetError, match=rf'layer "in" \({kind}\): the sizes of .* shape \(-1,\)'):
        make_net(text)


def test_an_in_place_layer_has_to_be_the_first_reader(make_net: NetMaker) -> None:
    """As in BVLC Caffe: a blob that was read before has been split, and is in-place no more."""
    layers = [
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 } } }',
        'layer { name: "relu" type: "ReLU" bottom: "x" top: "x" }',
        'layer { name: "reader" type: "TanH" bottom: "x" top: "y" }',
    ]
    outputs = make_net("".join(layers))(x=torch.tensor([-1.0, 1.0]))
    assert outputs["y"].tolist() == [0, pytest.approx(np.tanh(1.0), rel=1e-6)]  # float32
    with pytest.raises(NetError, match="Top blob 'x' produced by multiple sources"):
        make_net("".join([layers[0], layers[2], layers[1]]))


def test_reshape_carries_the_shapes_of_the_inputs_through(make_net: NetMaker) -> None:
    net = make_net(SMALL)
    net.blobs["x"].reshape(7, 3)
    assert net.blobs["y"].shape == (2, 4)
    net.reshape()
    assert {name: b.shape for name, b in net.blobs.items()} == {
        "x": (7, 3),
        "y": (7, 4),
        "prob": (7, 4),
    }
    net.blobs["x"].reshape(7, 5)
    with pytest.raises(NetError, match=r'layer "ip" \(InnerProduct\): Input size incompatible'):
        net.reshape()


def test_device_none_asks_the_context(make_net: NetMaker, device: torch.device) -> None:
    net = make_net(SMALL)
    assert net.device.type == device.type
    assert {p.device.type for p in net.parameters()} == {device.type}


@pytest.mark.parametrize("phase", [caffe_pb2.TRAIN, caffe_pb2.TEST])
def test_layers_run_in_the_phase_of_the_net(make_net: NetMaker, phase: caffe_pb2.Phase) -> None:
    net = make_net(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 100 } } }'
        'layer { name: "d" type: "Dropout" bottom: "x" top: "y" }'
        'layer { name: "e" type: "Dropout" bottom: "x" top: "z" phase: TEST }',
        phase,
    )
    outputs = net(x=torch.ones(100))
    assert bool((outputs["y"] == 0).any()) == (phase == caffe_pb2.TRAIN)
    assert not (outputs["z"] == 0).any()


def test_inputs_given_in_part_are_refused(make_net: NetMaker) -> None:
    net = make_net(
        'layer { name: "d" type: "DummyData" top: "a" top: "b"'
        " dummy_data_param { shape { dim: 2 } } }"
        'layer { name: "e" type: "Eltwise" bottom: "a" bottom: "b" top: "c" }'
    )
    two = torch.ones(2)
    assert net(a=two, b=two)["c"].tolist() == [2, 2]
    with pytest.raises(NetError, match=r'layer "d" .*no data given for b\. Pass .* a, b'):
        net(a=two)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.ones((2, 5)), "Input size incompatible"), (np.ones((2, 3), np.float64), None)],
)
def test_inputs_of_another_shape_or_type(
    make_net: NetMaker, value: np.ndarray[Any, Any], message: str | None
) -> None:
    net = make_net(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 3 } } }'
        'layer { name: "y" type: "InnerProduct" bottom: "x" top: "y"'
        " inner_product_param { num_output: 2 } }"
    )
    if message is None:
        assert net(x=value)["y"].shape == (2, 2)
    else:
        with pytest.raises(NetError, match=message):
            net(x=value)


def test_shapes_that_follow_from_values_are_explained(make_net: NetMaker) -> None:
    net = make_net("""
layer { name: "in" type: "Input" top: "x" top: "s"
  input_param { shape { dim: [3, 2] } shape { dim: 3 } } }
layer { name: "some" type: "Filter" bottom: "x" bottom: "s" top: "y" }
layer { name: "ip" type: "InnerProduct" bottom: "y" top: "z"
  inner_product_param { num_output: 2 axis: 0 } }
""")
    x = torch.ones(3, 2)
    assert net(x=x, s=torch.ones(3))["z"].shape == (2,)
    with pytest.raises(NetError, match=r'layer "ip" .*take 6 inputs, a bottom of shape 2 2'):
        net(x=x, s=torch.tensor([1, 0, 1]))


def test_a_convolution_keeps_its_channels(make_net: NetMaker) -> None:
    net = make_net(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 4'
        ' dim: 4 } } } layer { name: "c" type: "Convolution" bottom: "x" top: "c"'
        " convolution_param { num_output: 2 kernel_size: 3 } }"
    )
    assert net(x=torch.zeros(5, 1, 8, 8))["c"].shape == (5, 2, 6, 6)
    with pytest.raises(NetError, match=r'layer "c" .*must have 1 channels and 4 axes'):
        net(x=torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(("params", "needed"), [("", True), ("param { lr_mult: 0 } " * 3, False)])
def test_statistics_count_as_learned_for_what_needs_backward(
    make_net: NetMaker, params: str, needed: bool
) -> None:
    """BVLC Caffe looks at the net's own `param` entries, before BatchNorm adds its zeros."""
    net = make_net(
        'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        f'layer {{ name: "bn" type: "BatchNorm" bottom: "x" top: "y" {params} }}'
        'layer { name: "sum" type: "Reduction" bottom: "y" top: "l" loss_weight: 1 }'
    )
    assert [place.marks.layer for place in net.places] == [False, needed, needed]
    assert [blob.lr_mult for blob in net.learnable] == [0, 0, 0]


def test_a_net_goes_to_another_device_as_modules_do(make_net: NetMaker) -> None:
    """Its inputs follow, and what its blobs hold."""
    net = make_net(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }'
        'layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y"'
        ' inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
        'layer { name: "c" type: "DummyData" top: "c" dummy_data_param { shape { dim: 2 dim: 2 }'
        " data_filler { value: 3 } } }"
        'layer { name: "sum" type: "Eltwise" bottom: "y" bottom: "c" top: "z" }'
    )
    x = torch.randn(2, 3)
    wanted, blob = net(x)["z"].detach(), net.layer_blobs(1)[0]
    net.blobs["x"].data[...] = 1
    with playing_a_gpu() as gpu:
        assert net.cuda() is net
        for given in (x, x.cuda()):
            found = net(given)["z"]
            assert found.device == net.device == gpu
            torch.testing.assert_close(found.detach().cpu(), wanted)
        assert net.blobs["x"].data_memory.tensor().device == gpu
        assert net.blobs["x"].data.min() == 1
        blob.data[...] = 0
        assert net(x)["z"].sum() == 12
        assert net.to("cpu").device.type == "cpu"
        assert net(x.cuda())["z"].device.type == "cpu"
