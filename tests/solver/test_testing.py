from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.training_runs import weights
from torch import Tensor

from moka.errors import WeightsError
from moka.net import Net
from moka.report.records import (
    Record,
    TestCompleted,
    TestStarted,
)
from moka.weights import load_weights

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def test_a_test_is_the_mean_over_its_batches(make_solver: SolverMaker, database: str) -> None:
    records: list[Record] = []
    solver = make_solver(
        "test_iter: 5 test_interval: 1 test_compute_loss: true", net="plain", records=records
    )
    solver.test_all()
    (result,) = (r for r in records if isinstance(r, TestCompleted))
    losses = [solver.net(**batch(solver.net))["loss"].item() for _ in range(5)]
    assert [o.name for o in result.outputs] == ["loss"]
    assert result.outputs[0].value == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_a_test_of_no_batches(make_solver: SolverMaker) -> None:
    """Solver files say `test_iter: 0` to leave tests out."""
    records: list[Record] = []
    solver = make_solver("test_iter: 0 test_interval: 2 max_iter: 3", records=records)
    solver.solve()
    tests = [r for r in records if isinstance(r, TestCompleted)]
    assert [(r.iteration, r.outputs, r.loss) for r in tests] == [(2, (), None)]


def batch(net: Net) -> dict[str, Tensor]:
    """The next batch of a net's first layer."""
    return dict(zip(net.graph.nodes[0].tops, net.run_layer(net.places[0], ()), strict=True))


def test_test_nets_use_the_parameters_that_are_trained(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    solver = make_solver("test_iter: 1 test_interval: 1 max_iter: 30", records=records)
    solver.solve()
    tests = [r.outputs[0].value for r in records if isinstance(r, TestCompleted)]
    assert len(tests) == 30
    assert all(later < earlier for earlier, later in pairwise(tests))


def test_a_test_net_that_cannot_share_is_refused_before_training(
    make_solver: SolverMaker,
) -> None:
    other = """
layer { name: "data" type: "DummyData" top: "x" dummy_data_param { shape { dim: 4 dim: 2 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 1 } }
"""
    with pytest.raises(WeightsError, match=r"layer 'ip': .*\(1, 2\).*TEST.*\(1, 3\).*TRAIN"):
        make_solver(f"test_iter: 1 test_interval: 5 test_net_param {{ {other} }}")


@pytest.mark.parametrize("asked", ["stop", "requeue"])
def test_a_request_to_stop_ends_a_long_test(make_solver: SolverMaker, asked: str) -> None:
    records: list[Record] = []
    solver = make_solver(
        "test_iter: 1000 test_interval: 1 test_initialization: true", records=records
    )
    solver.listeners.append(lambda _: setattr(solver.requests, asked, True))
    solver.step(3)
    assert [type(record) for record in records] == [TestStarted]


def test_tests_with_averaged_weights(make_solver: SolverMaker) -> None:
    records: list[Record] = []
    text = "test_iter: 1 test_interval: 100 ema_decay: 0.75"
    solver = make_solver(f"{text} test_with_ema: true", records=records)
    solver.step(4)
    before = weights(solver)
    solver.test_all()
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), before, strict=True))
    solver.snapshot()
    plain: list[Record] = []
    other = make_solver(text, records=plain)
    load_weights(other.net, ["snap_iter_4.ema.caffemodel"])
    other.test_all()
    (got,), (wanted,) = (
        [r.outputs for r in rs if isinstance(r, TestCompleted)] for rs in (records, plain)
    )
    assert got == wanted
    load_weights(other.net, ["snap_iter_4.caffemodel"])
    other.test_all()
    assert [r.outputs for r in plain if isinstance(r, TestCompleted)][-1] != wanted
