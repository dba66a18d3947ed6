from __future__ import annotations

import torch
from torch import Tensor

from moka.layers.passes import PassCounter
from moka.layers.registry import REGISTRY
from moka.schema import caffe_pb2


class Counting(PassCounter):
    entry = REGISTRY["ReLU"]

    def again(self, x: Tensor) -> Tensor:
        return x * self.passes


def test_passes_are_counted_and_kept() -> None:
    layer = Counting(caffe_pb2.LayerParameter(top=["y"]), (1,))
    x = torch.ones(1)
    assert [float(layer(x)) for _ in range(3)] == [1, 2, 3]
    assert float(layer.again(x)) == 3
    (kept,) = layer.run_state()
    fresh = Counting(caffe_pb2.LayerParameter(top=["y"]), (1,))
    fresh.load_run_state([kept.float()])  # files hold floats
    assert float(fresh(x)) == 4
