"""The mean of gradients, with a fake team; test_together.py has two real processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from moka.net import build_net
from moka.parallel.reduce import GradientMean
from moka.parallel.team import Alone, Averaging
from moka.schema import caffe_pb2, parse_text
from moka.solver.solver import Solver

NET = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 2 dim: 2 } data_filler { value: 1 } data_filler { value: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 2 bias_term: false weight_filler { value: 0.5 } } }
layer { name: "two" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } param {}
  inner_product_param { num_output: 2 weight_filler { value: 0.5 } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "b" bottom: "t" top: "loss" }
"""


NORMALIZED = """
layer { name: "data" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 2 } shape { dim: 4 dim: 3 }
  data_filler { value: 1 } data_filler { value: 3 } } }
layer { name: "ip" type: "InnerProduct" bottom: "x" top: "a"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "a" top: "a" }
layer { name: "scale" type: "Scale" bottom: "a" top: "a" scale_param { bias_term: true } }
layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "t" top: "loss" }
"""


class FakeTeam(Alone):
    """With one other member, whose gradients are all 4; `sent` is what goes there."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.sent: list[list[float]] = []

    def begin_average(
        self,
        tensors: Sequence[Tensor],
        dtype: torch.dtype | None = None,
        row: Tensor | None = None,
    ) -> Averaging:
        assert dtype is None
        self.sent.append([value for tensor in tensors for value in tensor.flatten().tolist()])
        means = [(tensor + 4) / 2 for tensor in tensors]

        def put() -> None:
            for tensor, mean in zip(tensors, means, strict=True):
                tensor.copy_(mean)

        return Averaging(put=put)


class Connected(FakeTeam):
    @property
    def is_connected(self) -> bool:
        return True


def make(tmp_path: Path, more: str = "", team: Alone | None = None) -> Solver:
    (tmp_path / "net.prototxt").write_text(NET)
    file = tmp_path / "solver.prototxt"
    file.write_text(
        f'train_net: "{tmp_path}/net.prototxt" base_lr: 1 lr_policy: "fixed"'
        f" snapshot_after_train: false {more}"
    )
    return Solver(str(file), team=team)


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


def mean_of(solver: Solver) -> tuple[GradientMean, list[list[float]]]:
    team = FakeTeam()
    return GradientMean(solver.net, team, solver.config), team.sent


def test_all_gradients_go_in_one_message(tmp_path: Path) -> None:
    solver = make(tmp_path)
    mean, sent = mean_of(solver)
    fill_grads(solver, 2)
    mean.on_start()
    mean.on_gradients_ready()
    assert sent == [[2] * 6]
    assert grads(solver) == [3] * 6


def test_a_layer_sends_what_it_owns_and_nobody_sends_twice(tmp_path: Path) -> None:
    solver = make(tmp_path)
    mean, sent = mean_of(solver)
    fill_grads(solver, 2)
    mean.on_start()
    mean.after_layer(2)
    assert sent == [[2] * 2]  # the bias; the weight still waits for layer "one"
    mean.after_layer(1)
    assert sent == [[2] * 2, [2] * 4]
    mean.on_gradients_ready()
    assert sent[2:] == [[]]
    assert grads(solver) == [3] * 6
    mean.on_start()
    mean.on_gradients_ready()
    assert sent[3:] == [[3] * 6]  # the next iteration's


def test_several_passes_are_sent_at_their_end(tmp_path: Path) -> None:
    solver = make(tmp_path, "iter_size: 2")
    mean, sent = mean_of(solver)
    fill_grads(solver, 2)
    mean.on_start()
    for layer in (2, 1, 2, 1):
        mean.after_layer(layer)
    assert not sent
    mean.on_gradients_ready()
    assert sent == [[2] * 6]


def test_a_step_updates_with_the_mean(tmp_path: Path) -> None:
    solver = make(tmp_path)
    mean, sent = mean_of(solver)
    solver.on_start.append(mean.on_start)
    solver.on_gradients_ready.append(mean.on_gradients_ready)
    bias = solver.net.layers[2].weights[1]
    solver.step(1)
    # b = 0.5 (1 + 1) + ... = 1 everywhere, so the bias's gradient is 2/2 (1 - 3) = -2.
    assert sent[0][:2] == [-2, -2]  # the last layer's come first
    assert bias.tolist() == [-1, -1]  # -1 times the mean of -2 and 4


def test_alone_nothing_changes(tmp_path: Path) -> None:
    solver = make(tmp_path)
    mean = GradientMean(solver.net, Alone(), solver.config)
    fill_grads(solver, 2)
    mean.broadcast()
    mean.after_layer(1)
    mean.on_gradients_ready()
    assert grads(solver) == [2] * 6


def test_ranks_begin_alike_and_share_the_data(tmp_path: Path) -> None:
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
        text = f'train_net: "{tmp_path}/net.prototxt" base_lr: 0 lr_policy: "fixed" max_iter: 9'
        text += " snapshot_after_train: false"
        message = parse_text(f"{text} random_seed: 3", caffe_pb2.SolverParameter)
        solver = Solver(message, team=Alone(rank, 2))
        weights.append(solver.net.layers[1].blobs[0].tolist())
        labels.append(solver.net.layers[0]()[1].tolist())
        solver.net.close()
    assert weights[0] == weights[1]
    assert sorted(labels[0] + labels[1]) == [0, 1, 2, 3, 4, 5]  # one epoch


def test_each_rank_draws_its_own_numbers(tmp_path: Path) -> None:
    drawn = []
    for rank in (0, 1, 0):
        make(tmp_path, "random_seed: 3", team=Alone(rank, 2))
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[2] != drawn[1]


def test_a_net_with_batch_norm_sends_during_the_backward_pass() -> None:
    message = parse_text(NORMALIZED, caffe_pb2.NetParameter)
    net = build_net(message, caffe_pb2.TRAIN)
    team = Connected()
    mean = GradientMean(net, team, caffe_pb2.SolverParameter())
    loss = net.propagate({})["loss"].sum()
    with mean.overlapped():
        loss.backward()  # type: ignore[no-untyped-call]
        assert len(team.sent) == 1
        assert len(team.sent[0]) == 3 * 2 + 3 + 3 + 3  # not 3 + 3 + 1 of the sums
