from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.training_runs import weights

from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from tests.training_runs import SolverMaker


def test_a_net_without_a_loss_is_warned_of(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    make_solver()
    assert not caplog.messages
    net = """
      layer { name: "d" type: "DummyData" top: "x" dummy_data_param { shape { dim: 1 } } }
      layer { name: "s" type: "Scale" bottom: "x" top: "y" scale_param { axis: 0 } }
    """
    config = parse_text(
        f'base_lr: 1 lr_policy: "fixed" net_param {{ {net} }}', caffe_pb2.SolverParameter
    )
    solver = Solver(config, file="s.prototxt")
    assert caplog.messages == ["s.prototxt: the train net has no loss: nothing is learned."]
    before = weights(solver)
    solver.step(2)
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), before, strict=True))


def test_weights_to_finetune_from(make_solver: SolverMaker) -> None:
    source = make_solver("random_seed: 11")
    model, _ = source.snapshot()
    solver = make_solver(f'random_seed: 12 weights: "{model}"')
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), weights(source), strict=True))


def test_a_seed_fixes_a_run(make_solver: SolverMaker, database: str) -> None:
    runs = []
    for seed in (4, 4, 5):
        solver = make_solver(f"random_seed: {seed}", net="random")
        solver.step(20)
        runs.append(weights(solver))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))
