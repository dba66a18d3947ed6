from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from moka.errors import SolverError
from moka.schema import caffe_pb2, parse_text
from moka.solver.learnable import Learnable
from moka.solver.solver import Solver
from moka.solver.sparse_weights import Kernels, check_sparsity, zero_smallest

Maker = Callable[[str], Solver]

NET = """
name: "sparse"
layer { name: "data" type: "DummyData" top: "x" top: "t"
        dummy_data_param { shape { dim: 2 dim: 32 dim: 1 dim: 1 } shape { dim: 2 }
                           data_filler { value: 0.5 } data_filler { value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
        convolution_param { num_output: 32 kernel_size: 1
                            weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "score" type: "Convolution" bottom: "conv" top: "score"
        convolution_param { num_output: 2 kernel_size: 1
                            weight_filler { type: "gaussian" std: 0.1 } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "t" top: "loss" }
"""
SPARSE = """
sparse_mode: SPARSE_UPDATE sparsity_target: 0.5 sparsity_start_factor: 0.25
sparsity_step_factor: 0.25 sparsity_step_iter: 2
sparsity_threshold_value_max: 9 sparsity_threshold_maxratio: 1
"""


@pytest.fixture
def make_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    monkeypatch.chdir(tmp_path)
    made: list[Solver] = []

    def make(text: str) -> Solver:
        usual = 'base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" random_seed: 3'
        message = parse_text(
            f"{usual} snapshot_after_train: false net_param {{ {NET} }} {text}",
            caffe_pb2.SolverParameter,
        )
        made.append(Solver(message))
        return made[-1]

    yield make
    for solver in made:
        solver.close()


def weights(solver: Solver, layer: int = 1) -> Tensor:
    return solver.net.layers[layer].blobs[0].detach().clone()


def zeros(values: Tensor) -> float:
    return float((values == 0).float().mean())


def test_weights_become_0_step_by_step_and_stay_so(make_solver: Maker) -> None:
    solver = make_solver(SPARSE)
    solver.step(1)
    assert zeros(weights(solver)) == 0
    for reached in (0.25, 0.25, 0.5, 0.5, 0.5, 0.5, 0.5):  # iterations 2 to 8
        before = weights(solver)
        solver.step(1)
        after = weights(solver)
        assert zeros(after) == reached
        assert not after[before == 0].any()
        assert bool((after != before)[after != 0].any())
    # two outputs: half the share, and nothing of it counts before a softmax
    assert zeros(weights(solver, 2)) == 0.25


def test_iterations_may_count_from_0(make_solver: Maker) -> None:
    solver = make_solver(SPARSE + "sparsity_itr_increment_bfr_applying: false")
    solver.step(1)
    assert zeros(weights(solver)) == 0.25


def test_it_begins_later(make_solver: Maker) -> None:
    solver = make_solver(SPARSE + "sparsity_start_iter: 3")
    solver.step(3)
    assert zeros(weights(solver)) == 0
    solver.step(1)
    assert zeros(weights(solver)) == 0.25


def test_without_a_target_what_is_0_stays_so(make_solver: Maker) -> None:
    solver = make_solver("sparse_mode: SPARSE_UPDATE")
    given = solver.net.layers[1].blobs[0].detach()
    given[:, :8] = 0
    before = weights(solver)
    solver.step(2)
    after = weights(solver)
    assert not after[:, :8].any()
    assert bool((after != before)[:, 8:].all())


def test_a_snapshot_changes_nothing(make_solver: Maker) -> None:
    straight = make_solver(SPARSE)
    straight.step(6)
    solver = make_solver(SPARSE)
    solver.step(3)
    _, state = solver.snapshot()
    resumed = make_solver(SPARSE)
    resumed.restore(state)
    resumed.step(3)
    assert torch.equal(weights(resumed), weights(straight))


def test_the_log_shows_the_shares(make_solver: Maker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    make_solver(SPARSE + "display_sparsity: 4").step(5)
    lines = [r.getMessage() for r in caplog.records if r.name == "moka"]
    assert lines == [
        "Finding and applying sparsity: sparsity_target=0.5 sparsity_factor=0.25"
        " sparsity_achieved=0 iter=2",
        "Finding and applying sparsity: sparsity_target=0.5 sparsity_factor=0.5"
        " sparsity_achieved=0.25 iter=4",
        "Sparsity after update:",
        "conv_param_0(0.5)",
        "Total Sparsity (zero_weights/count) =  (512/1024) 0.5",
    ]


def test_shares_are_shown_without_sparse_training(
    make_solver: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "moka")
    make_solver("display_sparsity: 1").step(1)
    assert caplog.messages[-1] == "Total Sparsity (zero_weights/count) =  (0/1024) 0"


@pytest.mark.parametrize("share", [0.0, 0.3, 0.55, 1.0])
@pytest.mark.parametrize(("ratio", "limit"), [(1, 9), (0.3, 9), (0.9, 0.25)])
def test_the_smallest_of_each_channel(share: float, ratio: float, limit: float) -> None:
    """The threshold is the largest that leaves no more than the share at or below it."""
    given = np.random.default_rng(0).normal(size=(4, 2, 5)).round(1).astype(np.float32)
    wanted = given.copy()
    for channel in wanted:
        sizes = np.abs(channel)
        for threshold in sorted({0.0, *sizes.ravel()}):
            few = (sizes <= threshold).mean() <= np.float32(share) + 1e-6
            if few and threshold < min(limit, ratio * sizes.max()):
                channel[sizes <= threshold] = 0
    found = torch.from_numpy(given.copy())
    zero_smallest(found, share, ratio, limit)
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize(
    ("shape", "group", "share"),
    [
        ((32, 32, 1, 1), 1, 0.5),
        ((32, 16, 3, 3), 2, 0.5),
        ((64, 3, 3, 3), 1, 0.25),
        ((10, 64, 1, 1), 1, 0.25),
        ((16, 31, 3, 3), 1, 0),
        ((64, 1, 3, 3), 64, 0),
    ],
)
def test_narrow_convolutions_lose_less(shape: tuple[int, ...], group: int, share: float) -> None:
    learnable = Learnable(nn.Parameter(torch.ones(shape)), 1, 1)
    assert Kernels("conv", learnable, group, counts=True).share(0.5) == share


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sparsity_target: 1", r"sparsity_target must be in \[0, 1\), got 1\."),
        ("sparsity_start_factor: -0.5", "sparsity_start_factor must be in"),
        ("sparsity_step_iter: 0", "sparsity_step_iter must be > 0, got 0"),
        ("display_sparsity: -1", "display_sparsity must be >= 0, got -1"),
        ("sparsity_target: 0.5", "sparsity_target needs sparse_mode: SPARSE_UPDATE"),
    ],
)
def test_bad_options(text: str, told: str) -> None:
    with pytest.raises(SolverError, match=told):
        check_sparsity(parse_text(text, caffe_pb2.SolverParameter))
