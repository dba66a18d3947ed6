from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.conftest import NetMaker

from moka import threads, two_ways
from moka.parallel.team import Alone
from moka.schema import caffe_pb2, parse_text
from moka.schema.caffe_pb2 import SolverParameter
from moka.solver.own_threads import LARGE, measured_steps
from moka.solver.solver import Solver

NET = """
layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 2 dim: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 4 } }
layer { name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "ip" top: "loss" }
"""


@pytest.fixture
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process whose solvers may choose."""
    monkeypatch.setattr(threads, "_is_on", True)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def chooses(make_net: NetMaker, **config: Any) -> bool:
    made = measured_steps(SolverParameter(**config), make_net(NET), Alone())
    return isinstance(getattr(made, "__self__", None), threads.ThreadChoice)


@pytest.mark.usefixtures("_two_threads")
def test_free_and_short_steps_choose(make_net: NetMaker) -> None:
    assert chooses(make_net)


@pytest.mark.usefixtures("_two_threads")
def test_equal_numbers_are_kept(make_net: NetMaker) -> None:
    assert not chooses(make_net, random_seed=1)


@pytest.mark.usefixtures("_two_threads")
def test_large_steps_take_all_threads(make_net: NetMaker) -> None:
    assert not chooses(make_net, iter_size=LARGE // (2 * 3 * 4) + 1)


def test_nobody_asked(make_net: NetMaker) -> None:
    assert not chooses(make_net)


@pytest.mark.usefixtures("_two_threads")
def test_steps_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With trials all the time: both numbers of threads are seen in steps, all of them after."""
    monkeypatch.setattr(two_ways, "TRY_EVERY_S", 0.0)
    monkeypatch.setattr(two_ways, "TRIAL_S", 0.0)
    config = SolverParameter(base_lr=0.1, lr_policy="fixed", snapshot_after_train=False)
    config.net_param.CopyFrom(parse_text(NET, caffe_pb2.NetParameter))
    solver = Solver(config)
    seen: list[int] = []
    solver.on_start.append(lambda: seen.append(torch.get_num_threads()))
    solver.step(12)
    assert {1, 2} == set(seen)
    assert torch.get_num_threads() == 2
