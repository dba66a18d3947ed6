from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.inference import openvino
from moka.inference.contract import Backend, Run, Task
from moka.inference.cut import Piece
from moka.inference.engines import BACKENDS
from moka.inference.flow import flow_of
from moka.inference.make import Maker
from moka.inference.onnx_model import onnx_model

if TYPE_CHECKING:
    from tests.conftest import NetMaker

    from moka.net import Net

BACKEND = next(backend for backend in BACKENDS if backend.name == "openvino")
pytestmark = pytest.mark.skipif(not BACKEND.is_installed(), reason="OpenVINO is not installed")
TEXT = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 300 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 400 weight_filler { type: "xavier" } } }
layer { name: "prob" type: "Softmax" bottom: "ip" top: "prob" }
"""


def task_of_whole(net: Net, monkeypatch: pytest.MonkeyPatch) -> Task:
    """What the backend gets."""
    found: list[Task] = []
    make = type(BACKEND).make

    def noted(backend: Backend, task: Task) -> Run:
        found.append(task)
        return make(backend, task)

    monkeypatch.setattr(type(BACKEND), "make", noted)
    program = Maker(net, flow_of(net), {"data": torch.randn(2, 300)}, ["prob"]).make(BACKEND)
    assert program is not None
    assert [type(step) for step in program.steps] == [Piece]
    return found[0]


def test_large_constants_are_not_copied(
    make_net: NetMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = make_net(TEXT)
    model = onnx_model(task_of_whole(net, monkeypatch))
    core: Any = import_module("openvino").Core()
    read = openvino._sharing(core, model)
    assert [parameter.get_friendly_name() for parameter in read.get_parameters()] == ["data"]
    shared = [op.data for op in read.get_ops() if op.get_type_name() == "Constant"]
    (weight,) = (array for array in shared if array.size == 400 * 300)
    assert np.shares_memory(weight, net.layers[1].weights[0].detach().numpy())


def test_a_model_that_cannot_share(make_net: NetMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("wants constants")

    monkeypatch.setattr(openvino, "_sharing", fail)
    task_of_whole(make_net(TEXT), monkeypatch)
