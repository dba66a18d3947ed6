from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from tests.training_runs import LINEAR, weights

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
    (said,) = caplog.messages
    assert said.startswith("s.prototxt: the train net has no loss: nothing is learned.")
    assert "force_backward: true" in said
    before = weights(solver)
    solver.step(2)
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), before, strict=True))


def test_a_net_whose_parameters_all_stay_is_warned_of(
    make_solver: SolverMaker, caplog: pytest.LogCaptureFixture
) -> None:
    frozen = LINEAR.replace('bottom: "x"', 'bottom: "x" param { lr_mult: 0 } param { lr_mult: 0 }')
    config = parse_text(
        f'base_lr: 1 lr_policy: "fixed" net_param {{ {frozen} }}', caffe_pb2.SolverParameter
    )
    Solver(config, file="s.prototxt")
    says = ["s.prototxt: all parameters have lr_mult 0: nothing is learned."]
    assert caplog.messages == says
    config.net_param.layer[1].param[1].lr_mult = 1
    Solver(config, file="s.prototxt")
    assert caplog.messages == says


def test_layers_that_forks_compute_otherwise_are_told_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    net = """layer { name: "x" type: "DummyData" top: "x" top: "t"
            dummy_data_param { shape { dim: 1 dim: 1 dim: 9 dim: 9 } shape { dim: 1 } } }
        layer { name: "c" type: "Convolution" bottom: "x" top: "c"
                convolution_param { num_output: 1 kernel_size: 3 pad: 5 } }
        layer { name: "crop" type: "Crop" bottom: "c" bottom: "x" top: "crop" }
        layer { name: "sum" type: "Reduction" bottom: "crop" top: "sum" loss_weight: 1 }"""
    config = parse_text(
        f"net_param {{ {net} }} base_lr: 1 lr_policy: 'fixed' test_iter: 1 test_interval: 9",
        caffe_pb2.SolverParameter,
    )
    Solver(config, file="s.prototxt")
    (line,) = caplog.messages
    assert "crop" in line


def test_weights_to_finetune_from(make_solver: SolverMaker) -> None:
    source = make_solver("random_seed: 11")
    model, _ = source.snapshot()
    solver = make_solver(f'random_seed: 12 weights: "{model}"')
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), weights(source), strict=True))


def test_blanks_in_a_list_of_weights(make_solver: SolverMaker) -> None:
    source = make_solver("random_seed: 11")
    model, _ = source.snapshot()
    solver = make_solver(f'random_seed: 12 weights: " {model} , {model}"')
    assert all(torch.equal(a, b) for a, b in zip(weights(solver), weights(source), strict=True))


def test_a_seed_fixes_a_run(make_solver: SolverMaker, database: str) -> None:
    runs = []
    for seed in (4, 4, 5):
        solver = make_solver(f"random_seed: {seed}", net="random")
        solver.step(20)
        runs.append(weights(solver))
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))
