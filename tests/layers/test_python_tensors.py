"""Layers of the user that are functions of tensors (`moka.Layer`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.python_layers import INPUT, python_net

from moka.engine.autograd import Autograd
from moka.errors import NetError
from moka.layers.python import TensorLayer
from moka.net import Net
from moka.schema import caffe_pb2
from moka.weights import share_weights

if TYPE_CHECKING:
    from tests.conftest import NetMaker
    from tests.layers.conftest import GradientCheck, LayerMaker, Spread, Write

CUBIC = """
class It(moka.Layer):
    def forward(self, a, b):
        return (a - b).abs().pow(3).sum() * float(self.param_str or 1)
"""


def test_one_function_of_tensors(
    make_layer: LayerMaker, write: Write, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer(f'type: "Python" {write(CUBIC, param_str="2")}', (2, 3), (2, 3))
    assert layer.first_top_shapes == [()]
    a, b = spread(2, 3), spread(2, 3) + 0.3
    top = layer(torch.from_numpy(a), torch.from_numpy(b))
    np.testing.assert_allclose(top.item(), 2 * (abs(a - b) ** 3).sum(), rtol=1e-12)
    check_gradient(layer, a, b)


LINEAR = """
class It(moka.Layer):
    def setup(self, x):
        self.linear = torch.nn.Linear(x[1], 2)
        self.drop = torch.nn.Dropout(0.5)
    def forward(self, x):
        return self.drop(self.linear(x)) + torch.zeros(2, device=x.device), x
"""


def torch_net(make_net: NetMaker, param: str, phase: caffe_pb2.Phase = caffe_pb2.TEST) -> Net:
    text = (
        f'layer {{ name: "it" type: "Python" bottom: "x" top: "y" top: "z" {param} }}'
        'layer { name: "loss" type: "Reduction" bottom: "y" top: "loss" loss_weight: 1 }'
    )
    return make_net(INPUT.format("dim: 4 dim: 3") + text, phase)


def test_modules_made_in_setup_are_its_parameters(
    make_net: NetMaker, write: Write, device: torch.device
) -> None:
    param = write(LINEAR)
    net = torch_net(make_net, param)
    layer = net.layers[1]
    assert isinstance(layer, TensorLayer)
    assert layer.first_top_shapes == [(4, 2), (4, 3)]
    assert [blob.shape for blob in net.layer_blobs(1)] == [(2, 3), (2,)]
    x = torch.randn(4, 3, device=device)
    weight, bias = (blob.data for blob in net.layer_blobs(1))
    np.testing.assert_allclose(
        net(x=x)["loss"].item(), (x.cpu().numpy() @ weight.T + bias).sum(), rtol=1e-4, atol=1e-5
    )  # float32
    net.blobs["x"].data[...] = x.cpu().numpy()
    Autograd(net).forward_backward()
    np.testing.assert_allclose(net.layer_blobs(1)[1].diff, [4, 4])
    other = torch_net(make_net, param)
    assert other(x=x)["loss"].item() != net(x=x)["loss"].item()
    share_weights(other, net)
    assert other(x=x)["loss"].item() == net(x=x)["loss"].item()
    assert other.layers[1].linear.weight is layer.linear.weight  # type: ignore[union-attr]
    assert list(layer.state_dict()) == ["linear.weight", "linear.bias"]  # under its own names
    assert not layer.on_host


@pytest.mark.parametrize(("phase", "dropped"), [(caffe_pb2.TRAIN, True), (caffe_pb2.TEST, False)])
def test_modules_know_the_phase(
    make_net: NetMaker, write: Write, phase: caffe_pb2.Phase, dropped: bool
) -> None:
    net = torch_net(make_net, write(LINEAR), phase)
    tops = [net.layers[1](torch.ones(4, 3))[0] for _ in range(20)]
    assert any((top == 0).any() for top in tops) == dropped


def test_finding_its_shapes_leaves_no_trace(make_net: NetMaker, write: Write) -> None:
    code = """
    class It(moka.Layer):
        calls = 0
        def setup(self, x):
            self.norm = torch.nn.BatchNorm1d(x[1])
        def forward(self, x):
            self.calls += 1
            return self.norm(x) + torch.rand(1)
    """
    param = write(code)
    state = torch.get_rng_state()
    layer = python_net(make_net, param, "4 3").layers[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.norm.num_batches_tracked == 0  # type: ignore[union-attr]
    assert layer.top_shapes((4, 3)) == [(4, 3)]
    assert layer.calls == 1


def test_shapes_may_depend_on_values(make_net: NetMaker, write: Write) -> None:
    code = "class It(moka.Layer):\n    def forward(self, x):\n        return x[x > 0]"
    net = python_net(make_net, write(code), "3")
    assert net.blobs["y"].shape == (0,)
    assert net(x=torch.tensor([1.0, -1, 2]))["y"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("made", "found"), [("None", "NoneType"), ('"ab"', "str"), ("(x, x)", "2"), ("()", "0")]
)
def test_its_function_makes_one_tensor_for_each_top(
    make_net: NetMaker, write: Write, made: str, found: str
) -> None:
    code = f"class It(moka.Layer):\n    def forward(self, x):\n        return {made}"
    message = rf'layer "it" .*It.forward must return a tensor for each top, 1 in all, got {found}\.'
    with pytest.raises(NetError, match=message):
        python_net(make_net, write(code), "2 3")


def test_a_fault_in_its_function_comes_out_with_its_name(make_net: NetMaker, write: Write) -> None:
    code = "class It(moka.Layer):\n    def forward(self, x):\n        return x @ x"
    with pytest.raises(RuntimeError, match="mat1 and mat2") as raised:
        python_net(make_net, write(code), "2 3")
    assert raised.value.__notes__ == ['raised by layer "it" (Python, user_layers_0.It)']


def test_a_net_with_one_compiles_whole(make_net: NetMaker, write: Write) -> None:
    net = torch_net(make_net, write(LINEAR))
    x = torch.randn(4, 3)
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x=x)["loss"], net(x=x)["loss"])
