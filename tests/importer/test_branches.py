from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tests.importer.onnx_models import random
from tests.importer.pytorch_nets import export

from moka.errors import NetError
from moka.importer.onnx_net import import_onnx
from moka.net import build_net
from moka.weights import copy_weights

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning"
)


def branch(op: str, *inputs: str, name: str) -> Any:
    node = helper.make_node(op, inputs, [f"{name}_y"], name)
    value = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(random(4, 1, 1), f"{name}_w")] if op == "Add" else []
    return helper.make_graph([node], name, [], [value], stored)


def write(file: Path, condition: list[Any]) -> Path:
    """A choice between tanh(a) and a + w, for a = relu(x)."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "a"),
        *condition,
        helper.make_node(
            "If", ["c"], ["y"], "choice",
            then_branch=branch("Tanh", "a", name="then"),
            else_branch=branch("Add", "a", "else_w", name="else"),
        ),
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4, 6, 5])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 6, 5])
    graph = helper.make_graph(nodes, "small", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, file)
    return file


def size_is(number: int) -> list[Any]:
    """Nodes that ask for the channels of x."""
    return [
        helper.make_node("Shape", ["x"], ["s"], start=1, end=2),
        helper.make_node("Constant", [], ["k"], value_ints=[number]),
        helper.make_node("Equal", ["s", "k"], ["e"]),
        helper.make_node("Squeeze", ["e"], ["c"]),
    ]


@pytest.mark.parametrize(("number", "layers"), [(4, "ReLU TanH"), (5, "ReLU Bias")])
def test_a_branch_that_shapes_choose(number: int, layers: str, tmp_path: Path) -> None:
    found = import_onnx(write(tmp_path / "x.onnx", size_is(number)))
    assert " ".join(layer.type for layer in found.net.layer[1:]) == layers
    assert found.free_batch


def test_a_branch_that_values_choose(tmp_path: Path) -> None:
    """It reads what its graphs capture, and so it is no constant."""
    condition = [
        helper.make_node("ReduceMax", ["x"], ["m"], keepdims=0),
        helper.make_node("Constant", [], ["k"], value_float=0.5),
        helper.make_node("Greater", ["m", "k"], ["c"]),
    ]
    with pytest.raises(NetError) as error:
        import_onnx(write(tmp_path / "x.onnx", condition))
    assert str(error.value).endswith(
        'node "choice" (If, opset 17) has no form in Caffe: Caffe has no layers that branch or'
        " repeat."
    )


def test_pytorchs_response_normalization(tmp_path: Path) -> None:
    """It is exported with a branch around a squeeze."""
    module = torch.nn.LocalResponseNorm(5, alpha=1.0)
    export(module, torch.randn(1, 6, 5, 4), tmp_path / "x.onnx")
    found = import_onnx(tmp_path / "x.onnx")
    net = build_net(found.net)
    copy_weights(net, found.weights)
    x = torch.randn(3, 6, 5, 4)
    torch.testing.assert_close(net(x)["out"], module(x), rtol=1e-4, atol=1e-5)
