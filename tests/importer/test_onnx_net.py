from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.export.conftest import random_weights
from tests.importer.onnx_models import imported, random
from tests.importer.pytorch_nets import NETS, Attention, export, with_random_statistics

from moka.errors import NetError
from moka.export.onnx.export import export_onnx
from moka.importer import table
from moka.importer.builder import NodeSite
from moka.importer.onnx_net import ImportedNet, import_onnx
from moka.layers import REGISTRY
from moka.models import zoo_folder
from moka.net import build_net
from moka.schema import caffe_pb2, read_text
from moka.solver.config import read_solver
from moka.solver.solver import Solver
from moka.weights import copy_weights

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning"
)


def training_net(found: ImportedNet) -> caffe_pb2.NetParameter:
    """The net on random images, pulled towards zero."""
    net = caffe_pb2.NetParameter()
    net.CopyFrom(found.net)
    source = net.layer[0]
    shape = source.input_param.shape[0]
    source.type = "DummyData"
    data = source.dummy_data_param
    data.shape.add().CopyFrom(shape)
    data.shape[0].dim[0] = 2
    data.data_filler.add(type="gaussian", std=1)
    source.ClearField("input_param")
    net.layer.add(name="loss", type="Reduction", bottom=["out"], top=["loss"], loss_weight=[1])
    net.layer[-1].reduction_param.operation = caffe_pb2.ReductionParameter.SUMSQ
    return net


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    """Twins: one convolution for two halves, then one product for both."""
    nodes: list[Any] = [
        ("Split", "x", "a b", {"axis": 1}),
        ("Conv", "a w", "c", {}),
        ("Conv", "b w v", "d", {"pads": [0, 0, 0, 1]}),
        ("Conv", "b w v", "e", {}),
        ("Concat", "c e", "y", {"axis": 1}),
    ]
    found = imported(tmp_path, nodes, {"w": random(3, 2, 2, 2), "v": random(3)}, outputs="y d")
    net = build_net(found.net, caffe_pb2.TRAIN)
    c, d, e = (net.get_submodule(f"node_{name}") for name in "cde")
    assert c.weight is e.weight
    assert d.bias is e.bias
    assert d.weight is not e.weight  # which has no zeros at its side


def test_where_they_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong form is found, and the node named where numbers differ first."""

    def wrong(site: NodeSite) -> None:
        site.give(site.add("TanH", site.blob(0)))

    monkeypatch.setitem(table._importers, "Sigmoid", wrong)
    nodes: list[Any] = [("Relu", "x", "a", {}), ("Sigmoid", "a", "b", {}), ("Abs", "b", "y", {})]
    with pytest.raises(NetError) as error:
        imported(tmp_path, nodes)
    said = str(error.value)
    assert said.startswith(f"{tmp_path / 'x.onnx'}: the net differs from ONNX Runtime by 0.")
    assert ' in y; they part at node "node_b" (Sigmoid, opset 17), by 0.' in said


def test_a_form_of_another_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        table._importers, "Relu", lambda site: site.give(site.cut(site.blob(0), 1, 0, 2))
    )
    with pytest.raises(NetError, match=r"would have the shape \(1, 2, 6, 5\), not \(1, 4, 6, 5\)"):
        imported(tmp_path, [("Relu", "x", "y", {})])


@pytest.mark.parametrize("folder", ["squeezenet_v1.1", "mobilenet_v2", "bvlc_googlenet"])
def test_what_moka_exports_comes_back(folder: str, tmp_path: Path) -> None:
    message = read_text(zoo_folder() / folder / "deploy.prototxt", caffe_pb2.NetParameter)
    message.layer[0].input_param.shape[0].dim[0] = 1
    net = random_weights(build_net(message))
    export_onnx(net, tmp_path / "x.onnx", check=False)
    found = import_onnx(tmp_path / "x.onnx")
    again = build_net(found.net)
    copy_weights(again, found.weights)
    x = torch.randn(2, *message.layer[0].input_param.shape[0].dim[1:])
    torch.testing.assert_close(again(x)["prob"], net(x)["prob"], rtol=1e-3, atol=1e-5)


def test_a_batch_that_cannot_grow_is_not_called_free(tmp_path: Path) -> None:
    """The file leaves the batch open, but what moves its axis has a form for one size alone."""
    original = Attention().eval()
    export(original, torch.randn(1, 3, 24, 24), tmp_path / "x.onnx")
    found = import_onnx(tmp_path / "x.onnx")
    assert not found.free_batch
    net = build_net(found.net)
    copy_weights(net, found.weights)
    x = torch.randn(1, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(net(x)["out"], original(x), rtol=1e-4, atol=1e-5)


def test_numbers_of_the_first_input_are_not_baked_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A form that holds for the input of the first comparison alone is found by a second one."""

    def baked(site: NodeSite) -> None:
        zeros = site.power(site.blob(0), scale=0, part="zeros")
        values = site.builder.trace.values[site.node.outputs[0]]
        site.give(site.add("Bias", zeros, blobs=[values[0]], bias_param={"axis": 1, "num_axes": 3}))

    monkeypatch.setitem(table._importers, "Sigmoid", baked)
    with pytest.raises(NetError, match="differs from ONNX Runtime on a second input: "):
        imported(tmp_path, [("Sigmoid", "x", "y", {})])


@pytest.mark.parametrize("name", NETS)
def test_a_net_of_pytorch(name: str, tmp_path: Path) -> None:
    """Same numbers at any batch size, with BVLC's layers alone, and a step of training."""
    original = with_random_statistics(NETS[name]())
    file = tmp_path / f"{name}.onnx"
    export(original, torch.randn(1, 3, 24, 24), file)
    found = import_onnx(file)
    assert found.free_batch
    assert all(difference.is_small for difference in found.differences)
    assert {REGISTRY[layer.type].fork for layer in found.net.layer} == {None}

    net = build_net(found.net)
    copy_weights(net, found.weights)
    x = torch.randn(3, 3, 24, 24)
    with torch.no_grad():
        torch.testing.assert_close(net(x)["out"], original(x), rtol=1e-4, atol=1e-4)

    message = caffe_pb2.SolverParameter(base_lr=0.001, lr_policy="fixed", max_iter=1)
    message.net_param.CopyFrom(training_net(found))
    message.snapshot_after_train = False
    solver = Solver(read_solver(message))
    copy_weights(solver.net, found.weights)
    before = {k: v.clone() for k, v in solver.net.state_dict().items()}
    solver.step(1)
    after = solver.net.state_dict()
    frozen = {
        layer.name for layer in found.net.layer if layer.param and layer.param[0].lr_mult == 0
    }
    changed = {key for key in after if not torch.equal(before[key], after[key])}
    assert changed
    assert all(torch.isfinite(values).all() for values in after.values())
    assert not {key for key in changed if key.rpartition(".")[0].replace("\\.", ".") in frozen}
    solver.close()
