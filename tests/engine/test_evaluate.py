from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.engine.autograd import Autograd
from moka.engine.evaluate import evaluate, outputs_of
from moka.errors import NetError
from moka.report.records import Output

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import NetMaker

TWO_NUMBERS = """
layer {
  name: "d" type: "DummyData" top: "v" top: "l" loss_weight: 0 loss_weight: 2
  dummy_data_param {
    shape { dim: 2 } shape { dim: 1 } data_filler { value: 3 } data_filler { value: 5 }
  }
}
"""


def test_every_number_of_every_output(make_net: NetMaker) -> None:
    net = make_net(TWO_NUMBERS)
    Autograd(net).forward()
    assert outputs_of(net) == (Output("l", 5, 2), Output("v", 3, 0), Output("v", 3, 0))


def test_means_over_batches(make_net: NetMaker) -> None:
    seen: list[int] = []
    scored = evaluate(Autograd(make_net(TWO_NUMBERS)), 3, lambda i, _: seen.append(i))
    assert scored == ((Output("l", 5, 2), Output("v", 3, 0), Output("v", 3, 0)), 10)
    assert seen == [0, 1, 2]


def test_giving_up(make_net: NetMaker) -> None:
    assert evaluate(Autograd(make_net(TWO_NUMBERS)), 3, lambda i, _: i == 1) is None


GROWING = """
import caffe

class Growing(caffe.Layer):
    def setup(self, bottom, top):
        self.passes = 0
    def reshape(self, bottom, top):
        top[0].reshape(1 + self.passes)
    def forward(self, bottom, top):
        self.passes += 1
    def backward(self, top, propagate_down, bottom):
        pass
"""


def test_outputs_of_changing_size_have_no_mean(
    make_net: NetMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "growing_layer.py").write_text(GROWING)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = make_net(
        'layer { name: "g" type: "Python" top: "g"'
        ' python_param { module: "growing_layer" layer: "Growing" } }'
    )
    with pytest.raises(
        NetError, match="1 numbers in one batch and 2 in another, so they have no mean"
    ):
        evaluate(Autograd(net), 3)
