from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.engine.autograd import Autograd
from moka.engine.evaluate import evaluate
from moka.inference.engines import engine_is
from moka.inference.evaluation import Inference
from moka.inference.program import Program
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

# A source that moves on, and losses and scores, which no program holds.
NET = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 6 dim: 6 } shape { dim: 4 }
  data_filler { type: "gaussian" } data_filler { value: 2 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "y"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "y" bottom: "t" top: "loss" loss_weight: 2 }
layer { name: "right" type: "Accuracy" bottom: "y" bottom: "t" top: "right" }
"""


@pytest.mark.parametrize("engine", ["auto", "torch", "onnxruntime"])
def test_scores(
    make_net: NetMaker,
    engine: str,
    monkeypatch: pytest.MonkeyPatch,
    programs_take: Callable[[float], None],
) -> None:
    runs: list[str] = []
    run = Program.run

    def counted(program: Program, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        runs.append(program.backend)
        return run(program, given)

    monkeypatch.setattr(Program, "run", counted)
    programs_take(0.0)
    scores = []
    for kind in (Autograd, Inference):
        torch.manual_seed(4)
        net = make_net(NET)
        torch.manual_seed(5)
        with engine_is(engine):
            scored = evaluate(kind(net), 6)
        assert scored is not None
        means, loss = scored
        scores.append([*(mean.value for mean in means), loss])
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)
    assert len(runs) == (4 if engine == "auto" else 6)


def test_other_blobs_than_the_outputs(make_net: NetMaker) -> None:
    net = make_net(NET)
    engine = Inference(net, ["c"])
    assert engine.in_view == {"c", "loss"}
    with engine_is("torch"):
        for _ in range(2):
            engine.forward()
            assert net.blobs["c"].data.shape == (4, 4, 4, 4)
            assert (net.blobs["c"].data >= 0).all()


def test_training_is_as_ever(make_net: NetMaker) -> None:
    losses = []
    for kind in (Autograd, Inference):
        torch.manual_seed(4)
        engine = kind(make_net(NET, caffe_pb2.TRAIN))
        torch.manual_seed(5)
        losses.append(float(engine.forward_backward()))
        assert all(p.grad is not None for p in engine.net.parameters())
    assert losses[0] == losses[1]
