from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from moka.engine.choose import evaluation_engine, training_engine
from moka.schema import caffe_pb2
from moka.schema.caffe_pb2 import SolverParameter

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "data" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 }
  data_filler { type: "gaussian" } } }
layer { name: "scale" type: "Scale" bottom: "x" top: "y" scale_param { axis: 0 } }
layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }
"""


def test_both_know_what_stays_in_view(make_net: NetMaker) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    for choose in (training_engine, evaluation_engine):
        assert choose(net, keep_blobs=True).in_view == {"x", "y", "sum"}
        assert choose(net, keep_blobs=False).in_view == choose(net).in_view == {"sum"}


def test_a_pass_of_training_can_be_run_again(make_net: NetMaker) -> None:
    engine = training_engine(make_net(TEXT, caffe_pb2.TRAIN))
    engine.forward_backward()
    assert engine.start is not None
    assert set(engine.start.inputs) == {"x"}


@pytest.mark.parametrize(
    ("precision", "half", "tensor_float_32"),
    [
        (SolverParameter.FLOAT, None, False),
        (SolverParameter.TF32, None, True),
        (SolverParameter.BF16, torch.bfloat16, False),
        (SolverParameter.FP16, torch.float16, False),
    ],
)
def test_the_precision_of_training(
    make_net: NetMaker,
    precision: SolverParameter.Precision,
    half: torch.dtype | None,
    tensor_float_32: bool,
) -> None:
    engine = training_engine(make_net(TEXT, caffe_pb2.TRAIN), precision=precision)
    assert (engine.half, engine.tensor_float_32) == (half, tensor_float_32)
