"""The mean of gradients, with the other solvers played by a fake of torch.distributed.

tests/caffe/test_nccl.py trains with two real processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from moka import context
from moka.parallel import reduce as parallel
from moka.parallel.reduce import GradientMean, new_uid
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 2 dim: 2 } data_filler { value: 1 } data_filler { value: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 2 bias_term: false weight_filler { value: 0.5 } } }
layer { name: "two" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } param {}
  inner_product_param { num_output: 2 weight_filler { value: 0.5 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "loss" }
"""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[list[float]]]:
    """What is sent, with one other solver whose gradients are all 4."""
    seen: list[list[float]] = []

    def all_reduce(tensor: Tensor) -> None:
        seen.append(tensor.tolist())
        tensor += 4

    monkeypatch.setattr(parallel, "_join", lambda *_: None)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    context.set_solver_count(2)
    yield seen
    context.set_solver_count(1)


def make(tmp_path: Path, more: str = "") -> Solver:
    (tmp_path / "net.prototxt").write_text(NET)
    file = tmp_path / "solver.prototxt"
    file.write_text(
        f'train_net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed"'
        f" snapshot_after_train: false {more}"
    )
    return Solver(str(file))


def fill_grads(solver: Solver, value: float) -> None:
    for parameter in solver.net.parameters():
        parameter.grad = torch.full_like(parameter, value)


def grads(solver: Solver) -> list[float]:
    net = solver.net
    return [
        value
        for blob in net.learnable
        if (grad := net.parameter_of(blob).grad) is not None
        for value in grad.flatten().tolist()
    ]


def test_all_gradients_go_in_one_message(sent: list[list[float]], tmp_path: Path) -> None:
    solver = make(tmp_path)
    mean = GradientMean(solver, new_uid())
    fill_grads(solver, 2)
    mean.on_start()
    mean.on_gradients_ready()
    assert sent == [[2] * 6]
    assert grads(solver) == [3] * 6


def test_a_layer_sends_what_it_owns_and_nobody_sends_twice(
    sent: list[list[float]], tmp_path: Path
) -> None:
    solver = make(tmp_path)
    mean = GradientMean(solver, new_uid())
    fill_grads(solver, 2)
    mean.on_start()
    mean.after_layer(2)
    assert sent == [[2] * 2]  # the bias; the weight still waits for layer "one"
    mean.after_layer(1)
    assert sent == [[2] * 2, [2] * 4]
    mean.on_gradients_ready()
    assert len(sent) == 2
    assert grads(solver) == [3] * 6
    mean.on_start()
    mean.on_gradients_ready()
    assert len(sent) == 3  # the next iteration's


def test_several_passes_are_sent_at_their_end(sent: list[list[float]], tmp_path: Path) -> None:
    solver = make(tmp_path, "iter_size: 2")
    mean = GradientMean(solver, new_uid())
    fill_grads(solver, 2)
    mean.on_start()
    for layer in (2, 1, 2, 1):
        mean.after_layer(layer)
    assert not sent
    mean.on_gradients_ready()
    assert sent == [[2] * 6]


def test_a_step_updates_with_the_mean(sent: list[list[float]], tmp_path: Path) -> None:
    solver = make(tmp_path)
    mean = GradientMean(solver, new_uid())
    solver.on_start.append(mean.on_start)
    solver.on_gradients_ready.append(mean.on_gradients_ready)
    bias = solver.net.layers[2].weights[1]
    solver.step(1)
    # b = 0.5 (1 + 1) + ... = 1 everywhere, so the bias's gradient is 2/2 (1 - 3) = -2.
    assert sent[0][-2:] == [-2, -2]
    assert bias.tolist() == [-1, -1]  # -1 times the mean of -2 and 4


def test_one_solver_sends_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parallel, "_join", lambda *_: pytest.fail("joins nobody"))
    monkeypatch.setattr(dist, "all_reduce", lambda *_: pytest.fail("sends nothing"))
    monkeypatch.setattr(dist, "broadcast", lambda *_: pytest.fail("sends nothing"))
    solver = make(tmp_path)
    mean = GradientMean(solver, new_uid())
    fill_grads(solver, 2)
    mean.broadcast()
    mean.after_layer(1)
    mean.on_gradients_ready()
    assert grads(solver) == [2] * 6


@pytest.fixture
def as_rank() -> Iterator[Callable[[int, int], None]]:
    """as_rank(rank, count): what this thread makes is one of so many solvers'."""

    def become(rank: int, count: int) -> None:
        context.set_solver_count(count)
        context.set_solver_rank(rank)

    yield become
    become(0, 1)


def test_ranks_begin_alike_and_share_the_data(
    as_rank: Callable[[int, int], None], tmp_path: Path
) -> None:
    for k in range(6):
        cv2.imwrite(str(tmp_path / f"{k}.png"), np.full((2, 2), k, np.uint8))
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{k}.png {k}\n" for k in range(6)))
    net = f"""
      layer {{ name: "d" type: "ImageData" top: "x" top: "y"
              image_data_param {{ source: "{tmp_path}/list.txt" batch_size: 3 shuffle: true
                                  is_color: false }} }}
      layer {{ name: "ip" type: "InnerProduct" bottom: "x" top: "ip"
              inner_product_param {{ num_output: 1 weight_filler {{ type: "xavier" }} }} }}
      layer {{ name: "loss" type: "EuclideanLoss" bottom: "ip" bottom: "y" }}"""
    (tmp_path / "net.prototxt").write_text(net)
    weights, labels = [], []
    for rank in range(2):
        as_rank(rank, 2)
        text = f'train_net: "{tmp_path}/net.prototxt" base_lr: 0 lr_policy: "fixed" max_iter: 9'
        text += " snapshot_after_train: false"
        solver = Solver(parse_text(f"{text} random_seed: 3", caffe_pb2.SolverParameter))
        weights.append(solver.net.layers[1].blobs[0].tolist())
        labels.append(solver.net.layers[0]()[1].tolist())
        solver.net.close()
    assert weights[0] == weights[1]
    assert sorted(labels[0] + labels[1]) == [0, 1, 2, 3, 4, 5]  # one epoch


def test_each_rank_draws_its_own_numbers(tmp_path: Path) -> None:
    drawn = []
    for rank in (0, 1, 0):
        context.set_solver_rank(rank)
        make(tmp_path, "random_seed: 3")
        drawn.append(float(torch.rand(())))
    context.set_solver_rank(0)
    assert drawn[0] == drawn[2] != drawn[1]
