"""Every backend that is installed gives the layers' numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moka.export.difference import difference_of
from moka.inference.contract import Backend
from moka.inference.engines import BACKENDS
from moka.inference.flow import flow_of
from moka.inference.make import Maker
from moka.net import Net, build_net

MODELS = Path(__file__).parents[2] / "models"
QUICK = ("squeezenet_v1.1", "mobilenet_v2")
SMALL = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 15 dim: 15 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "one" type: "Convolution" bottom: "conv" top: "one"
  convolution_param { num_output: 8 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "pick" type: "BatchReindex" bottom: "one" bottom: "which" top: "pick" }
layer { name: "sum" type: "Eltwise" bottom: "pick" bottom: "conv" top: "sum" }
layer { name: "pool" type: "Pooling" bottom: "sum" top: "pool"
  pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 50 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""
WHICH = 'layer { name: "which" type: "Input" top: "which" input_param { shape { dim: 2 } } }'


@pytest.fixture(params=BACKENDS, ids=[backend.name for backend in BACKENDS])
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    if not chosen.is_installed():
        pytest.skip(f"{chosen.name} is not installed")
    return chosen


def fill(net: Net) -> None:
    for layer in net.layers:
        for weight in layer.weights:
            with torch.no_grad():
                weight.normal_(0, (weight.numel() // max(1, len(weight))) ** -0.5)
                if layer.entry.state_blobs:
                    weight.abs_().add_(0.5)


def check(net: Net, backend: Backend, inputs: dict[str, torch.Tensor]) -> list[str]:
    """Hold a program to the layers; returns what its steps are."""
    fill(net)
    program = Maker(net, flow_of(net), inputs, net.graph.outputs).make(backend)
    assert program is not None
    with torch.no_grad():
        truth = net.propagate(inputs, net.graph.outputs)
    for _ in range(2):
        made = program.run(inputs)
        for name, wanted in truth.items():
            found = difference_of(made[name].numpy(), wanted.numpy(), name)
            assert found.is_small, found
    return [type(step).__name__ for step in program.steps]


def test_around_a_layer_with_indices(backend: Backend, make_net) -> None:  # type: ignore[no-untyped-def]
    net = make_net(WHICH + SMALL)
    inputs = {"which": torch.tensor([1.0, 0.0]), "data": torch.randn(2, 3, 15, 15)}
    assert check(net, backend, inputs) == ["Piece", "Place", "Piece"]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(file.parent.name for file in MODELS.glob("*/deploy.prototxt"))
    ],
)
def test_models(backend: Backend, name: str) -> None:
    net = build_net(MODELS / name / "deploy.prototxt")
    ((blob, shape),) = net.input_shapes.items()
    assert check(net, backend, {blob: torch.randn(1, *shape[1:])}) == ["Piece"]
