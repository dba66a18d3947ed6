"""Layers that do more than compute run by themselves, exactly once in each pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import caffe
import moka
from moka.inference.cut import Piece, cut
from moka.inference.engines import engine_is
from moka.inference.flow import flow_of
from moka.inference.program import Program
from moka.schema import caffe_pb2, parse_text
from moka.types import Array

HEAD = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "tanh" type: "TanH" bottom: "ip" top: "tanh" }
"""
TAIL = """
layer { name: "sum" type: "Eltwise" bottom: "act" bottom: "tanh" top: "sum" }
layer { name: "prob" type: "Softmax" bottom: "sum" top: "prob" }
"""
USERS = """layer { name: "act" type: "Python" bottom: "tanh" top: "act"
  python_param { module: "tests.inference.test_acting" layer: "Counting" } }"""
DRAWS = """layer { name: "act" type: "Dropout" bottom: "tanh" top: "act"
  dropout_param { sample_weights_test: true } }"""
ENGINES = ["auto", "torch", "onnxruntime"]


class Counting(caffe.Layer):
    """Adds the number of passes so far."""

    passes = 0

    def reshape(self, bottom: Any, top: Any) -> None:
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom: Any, top: Any) -> None:
        self.passes += 1
        top[0].data[...] = bottom[0].data + 0.1 * self.passes

    def backward(self, top: Any, propagate_down: Any, bottom: Any) -> None:
        bottom[0].diff[...] = top[0].diff


class Linear(moka.Layer):
    """A module with parameters of its own."""

    def setup(self, *_: Any) -> None:
        self.inner = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, programs_take: Callable[[float], None]) -> list[str]:
    """Which backends' programs have run; every program wins."""
    seen: list[str] = []
    run = Program.run

    def counted(program: Program, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        seen.append(program.backend)
        return run(program, given)

    monkeypatch.setattr(Program, "run", counted)
    programs_take(0.0)
    return seen


def passes_of(net: caffe.Net, *, read: bool) -> list[dict[str, Array]]:
    """What some passes show, on the same inputs and draws for every net."""
    torch.manual_seed(3)
    draw = np.random.default_rng(4)
    for k, (_, arrays) in enumerate(net.params.items()):
        for blob in arrays:
            blob.data[...] = np.random.default_rng(k).standard_normal(blob.data.shape)
    shown = []
    for k in range(6):
        net.blobs["data"].data[...] = draw.standard_normal((2, 3))
        net.forward()
        names = ["tanh", "act", "sum"] if read and k % 2 else []
        shown.append({name: net.blobs[name].data.copy() for name in [*names, "prob"]})
    return shown


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("act", [USERS, DRAWS], ids=["user's code", "draws"])
@pytest.mark.parametrize("engine", ENGINES)
def test_blobs(tmp_path: Path, engine: str, act: str, read: bool, runs: list[str]) -> None:
    (tmp_path / "net.prototxt").write_text(HEAD + act + TAIL)
    file = str(tmp_path / "net.prototxt")
    with engine_is("layerwise"):
        wanted = passes_of(caffe.Net(file, caffe.TEST), read=read)
    with engine_is(engine):
        found = passes_of(caffe.Net(file, caffe.TEST), read=read)
    assert runs
    for one, other in zip(found, wanted, strict=True):
        assert one.keys() == other.keys()
        for name, array in other.items():
            np.testing.assert_allclose(one[name], array, rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_calls(engine: str, runs: list[str]) -> None:
    net = moka.load(parse_text(HEAD + USERS + TAIL, caffe_pb2.NetParameter))
    users: Any = dict(net.named_layers())["act"]
    with engine_is(engine), torch.no_grad():
        for k in range(1, 6):
            x = torch.randn(2, 3)
            tanh = torch.tanh(x @ net.layers[1].weights[0].T)
            made = net(x)
            assert made.keys() == {"prob"}
            torch.testing.assert_close(made["prob"], torch.softmax(2 * tanh + 0.1 * k, 1))
            assert users.users_object.passes == k
    assert runs


def test_with_gradients_the_layers_run(runs: list[str]) -> None:
    net = moka.load(parse_text(HEAD + USERS + TAIL, caffe_pb2.NetParameter))
    with engine_is("torch"):
        for _ in range(3):
            net(torch.randn(2, 3))["prob"].square().sum().backward()
    users: Any = dict(net.named_layers())["act"]
    assert users.users_object.passes == 3
    assert not runs


def test_blobs_of_a_net_with_backward_passes(tmp_path: Path, runs: list[str]) -> None:
    (tmp_path / "net.prototxt").write_text("force_backward: true\n" + HEAD + USERS + TAIL)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    with engine_is("torch"):
        for _ in range(4):
            net.forward()
            net.backward()
    assert not runs
    assert net.layers[list(net.layer_dict).index("act")].passes == 4


def test_layers_that_act_keep_their_order() -> None:
    """ "second" has to wait for two pieces, "third" for none."""
    between = 'layer { name: "exp" type: "Exp" bottom: "first" top: "exp" }'
    acting = [
        USERS.replace('"act"', f'"{top}"').replace('"tanh"', f'"{bottom}"')
        for top, bottom in [("first", "tanh"), ("second", "exp"), ("third", "data")]
    ]
    text = HEAD + acting[0] + between + acting[1] + acting[2]
    net = moka.load(parse_text(text, caffe_pb2.NetParameter))
    steps = cut(net, flow_of(net), [], lambda place: place.node.type != "Python")
    names = [step.node.name for step in steps if not isinstance(step, Piece)]
    assert names == ["first", "second", "third"]


def test_a_layer_of_modules(runs: list[str]) -> None:
    users = USERS.replace("Counting", "Linear")
    net: Any = moka.load(parse_text(HEAD + users + TAIL, caffe_pb2.NetParameter))
    x = torch.randn(2, 3)
    with torch.no_grad():
        for factor in (1, 1, 1, 1, 2, 1):
            net.act.inner.weight.data.mul_(factor)
            torch.testing.assert_close(net(x)["prob"], net.propagate({"data": x})["prob"])
    assert runs
