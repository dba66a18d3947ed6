"""Large weights of InnerProducts stay where they are."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import pytest
import torch
from tests.inference.test_backends import fill

from moka.export.difference import difference_of
from moka.inference import onnx_runtime, unpacked
from moka.inference.cut import Piece
from moka.inference.flow import flow_of
from moka.inference.make import Maker, task_of
from moka.inference.onnx_model import onnx_model
from moka.inference.onnx_runtime import OnnxRuntime
from moka.inference.program import Program
from moka.net import Net

DATA = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: {rows} dim: 40 }} }} }}
"""
PRODUCT = """
layer { name: "first" type: "InnerProduct" bottom: "data" top: "first" inner_product_param {
  num_output: 30 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "first" top: "first" }
"""
OTHERS = {
    "bias": "",
    "no bias": """
layer { name: "last" type: "InnerProduct" bottom: "first" top: "last" inner_product_param {
  num_output: 40 bias_term: false weight_filler { type: "xavier" } } }""",
    "transpose": """
layer { name: "last" type: "InnerProduct" bottom: "first" top: "last" inner_product_param {
  num_output: 40 transpose: true weight_filler { type: "xavier" } } }""",
    "shared": """
layer { name: "two" type: "InnerProduct" bottom: "data" top: "two" param { name: "w" }
  inner_product_param { num_output: 30 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "three" type: "InnerProduct" bottom: "data" top: "three" param { name: "w" }
  inner_product_param { num_output: 30 bias_term: false } }
layer { name: "sum" type: "Eltwise" bottom: "first" bottom: "two" bottom: "three" top: "sum" }""",
}
NetMaker = Callable[[str], Net]


@pytest.fixture(autouse=True)
def _small_weights_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked, "LARGE", 1000)


def program_of(net: Net, data: torch.Tensor) -> Program:
    fill(net)
    program = Maker(net, flow_of(net), {"data": data}, net.graph.outputs).make(OnnxRuntime())
    assert program is not None
    return program


@pytest.fixture(params=[0, onnx_runtime.FILE_BYTES], ids=["file", "memory"], autouse=True)
def _constants(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other constants go to ONNX Runtime through a file, or through memory."""
    monkeypatch.setattr(onnx_runtime, "FILE_BYTES", request.param)


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("other", OTHERS)
def test_numbers(make_net: NetMaker, rows: int, other: str) -> None:
    net = make_net(DATA.format(rows=rows) + PRODUCT + OTHERS[other])
    data = torch.randn(rows, 40)
    made = program_of(net, data).run({"data": data})
    with torch.no_grad():
        for name, truth in net(data).items():
            assert difference_of(made[name].numpy(), truth.numpy(), name).is_small


@pytest.mark.parametrize("rows", [1, 2])
def test_a_program_reads_the_nets_own_memory(make_net: NetMaker, rows: int) -> None:
    net = make_net(DATA.format(rows=rows) + PRODUCT)
    data = torch.randn(rows, 40)
    program = program_of(net, data)
    with torch.no_grad():
        net.layers[1].weights[0].mul_(2)
        truth = net(data)["first"]
    found = program.run({"data": data})["first"]
    assert difference_of(found.numpy(), truth.numpy(), "first").is_small


def plan(net: Net, rows: int) -> unpacked.Unpacked:
    data = torch.randn(rows, 40)
    program = program_of(net, data)
    (piece,) = program.steps
    assert isinstance(piece, Piece)
    task = task_of(net, program.flow, piece, {program.flow.given["data"]: data})
    model = onnx_model(task)
    return unpacked.unpacked(model.head, model.large)


def test_one_row_forbids_packing(make_net: NetMaker) -> None:
    single = plan(make_net(DATA.format(rows=1) + PRODUCT), 1)
    assert single.names == {"first.weight"}
    assert single.forbids_packing


def test_several_rows_are_multiplied_from_the_left(make_net: NetMaker) -> None:
    several = plan(make_net(DATA.format(rows=4) + PRODUCT), 4)
    assert several.names == {"first.weight"}
    assert not several.forbids_packing
    operators = [n.op_type for n in onnx.ModelProto.FromString(several.head).graph.node]
    assert operators == ["Transpose", "MatMul", "Transpose", "Add", "Relu"]


@pytest.mark.parametrize(("rows", "names"), [(1, set()), (2, {"first.weight"})])
def test_what_gains_by_packing_is_packed(make_net: NetMaker, rows: int, names: set[str]) -> None:
    found = plan(make_net(DATA.format(rows=rows) + PRODUCT + OTHERS["transpose"]), rows)
    assert found.names == names
    assert not found.forbids_packing
