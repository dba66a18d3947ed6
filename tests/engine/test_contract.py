"""Every engine keeps what `moka.engine.contract` promises, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.contract import Engine
from moka.engine.layerwise import Layerwise
from moka.net import Net
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

# A source that moves on, a constant, dropout, statistics, two losses, a Split.
NET = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 dim: 5 }
  data_filler { type: "gaussian" } data_filler { value: 0.5 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "drop" type: "Dropout" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "y"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 2 }
layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 0.25 }
"""


def recording(net: Net) -> Engine:
    engine = Autograd(net)
    engine.record(warm_ups=1)
    return engine


ENGINES: dict[str, Callable[[Net], Engine]] = {
    "layerwise": Layerwise,
    "autograd": Autograd,
    "autograd, recorded": recording,
    "autograd, all blobs": lambda net: Autograd(net, keep_blobs=True),
}
every_engine = pytest.mark.parametrize("make", ENGINES.values(), ids=list(ENGINES))
Make = Callable[[Net], Engine]


def run(make_net: NetMaker, make: Make) -> tuple[Engine, list[torch.Tensor]]:
    """Two passes with gradients and one without; the losses."""
    torch.manual_seed(5)
    engine = make(make_net(NET, caffe_pb2.TRAIN))
    engine.prepare()
    losses = [engine.forward_backward(), engine.forward_backward(), engine.forward()]
    return engine, losses


@every_engine
def test_all_engines_agree(make_net: NetMaker, device: torch.device, make: Make) -> None:
    wanted, wanted_losses = run(make_net, Layerwise)
    engine, losses = run(make_net, make)
    torch.testing.assert_close(losses, wanted_losses, rtol=1e-5, atol=1e-6, check_device=False)
    assert {"loss", "sum"} <= engine.in_view <= set(engine.net.blobs)
    for name in engine.in_view:
        have, want = (e.net.blobs[name].data for e in (engine, wanted))
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5, err_msg=name)
    for mine, theirs in zip(engine.net.parameters(), wanted.net.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@every_engine
def test_a_loss_is_a_scalar_without_a_graph(make_net: NetMaker, make: Make) -> None:
    _, losses = run(make_net, make)
    assert {(loss.shape, loss.dtype, loss.requires_grad) for loss in losses} == {
        ((), torch.float32, False)
    }


@every_engine
def test_with_callbacks_a_pass_goes_layer_by_layer(make_net: NetMaker, make: Make) -> None:
    _, wanted = run(make_net, make)
    called: list[int] = []

    def with_callback(net: Net) -> Engine:
        engine = make(net)
        engine.layerwise.callbacks.after_forward.append(called.append)
        return engine

    engine, losses = run(make_net, with_callback)
    torch.testing.assert_close(losses, wanted, rtol=1e-5, atol=1e-6)
    assert called == [*range(len(engine.net.places))] * 3
