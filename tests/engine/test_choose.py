from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.engine.choose import evaluation_engine, training_engine
from moka.schema import caffe_pb2

if TYPE_CHECKING:
    from tests.conftest import NetMaker

TEXT = """
layer { name: "data" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 }
  data_filler { type: "gaussian" } } }
layer { name: "scale" type: "Scale" bottom: "x" top: "y" scale_param { axis: 0 } }
layer { name: "sum" type: "Reduction" bottom: "y" top: "sum" loss_weight: 1 }
"""


@pytest.mark.parametrize("keep_blobs", [False, True])
def test_both_know_what_stays_in_view(make_net: NetMaker, keep_blobs: bool) -> None:
    net = make_net(TEXT, caffe_pb2.TRAIN)
    for engine in (
        training_engine(net, keep_blobs=keep_blobs),
        evaluation_engine(net, keep_blobs=keep_blobs),
    ):
        assert engine.in_view == ({"x", "y", "sum"} if keep_blobs else {"sum"})


def test_a_pass_of_training_can_be_run_again(make_net: NetMaker) -> None:
    engine = training_engine(make_net(TEXT, caffe_pb2.TRAIN))
    engine.forward_backward()
    assert engine.start is not None
    assert set(engine.start.inputs) == {"x"}
