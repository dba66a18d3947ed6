from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.importer.pytorch_nets import NETS, export, with_random_statistics

from moka.importer.onnx_net import ImportedNet, import_onnx
from moka.layers import REGISTRY
from moka.net import build_net
from moka.schema import caffe_pb2
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
