"""Several processes with a part of the batch each are one process with the whole batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.processes import run_together
from tests.training_runs import database

from moka.engine.autograd import Autograd
from moka.net import Net, build_net
from moka.parallel import reduce
from moka.parallel.join import join_team, new_uid
from moka.parallel.reduce import GradientMean
from moka.parallel.team import Team
from moka.schema import caffe_pb2, parse_text
from moka.solver.choose import RULES
from moka.solver.solver import Solver

__all__ = ["database"]

BATCH = 12
CPU = torch.device("cpu")
# A parameter that two layers share, one that is not trained, convolutions, a loss with a weight.
NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param {
  shape { dim: %d dim: 2 dim: 6 dim: 6 } shape { dim: %d } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv" param {} param { lr_mult: 0 }
  convolution_param { num_output: 3 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "one" type: "InnerProduct" bottom: "conv" top: "a"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "two" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } param {}
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "three" type: "InnerProduct" bottom: "b" top: "c" param { name: "w" } param {}
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c" bottom: "t" top: "loss" loss_weight: 2 }
"""


def gradient(
    team: Team | None, dtype: torch.dtype, *, overlapped: bool = True, more: str = ""
) -> list[Any]:
    """The gradient of each parameter after a pass of this process's part of the data."""
    rank, size = (team.rank, team.size) if team else (0, 1)
    torch.manual_seed(4)
    message = parse_text(NET % (BATCH // size, BATCH // size), caffe_pb2.NetParameter)
    net: Net = build_net(message, caffe_pb2.TRAIN).to(dtype)
    x, t = torch.randn(BATCH, 2, 6, 6, dtype=dtype), torch.arange(BATCH) % 4
    blobs = net.propagate({"x": x[rank::size], "t": t[rank::size].to(dtype)})
    loss = 2 * blobs["loss"].sum()
    if team is None:
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        mean = GradientMean(net, team, parse_text(more, caffe_pb2.SolverParameter))
        if overlapped:
            with mean.overlapped():
                loss.backward()  # type: ignore[no-untyped-call]
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        mean.on_gradients_ready()
    return [
        np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy().copy()
        for parameter in map(net.parameter_of, net.learnable)
    ]


def shared_gradient(rank: int, count: int, uid: bytes, name: str, bucket: int) -> Any:
    reduce.BUCKET_BYTES = bucket
    team = join_team(uid, rank, count, CPU, patience_s=30)
    dtype = getattr(torch, name)
    return gradient(team, dtype), gradient(team, dtype, overlapped=False)


@pytest.mark.parametrize(("count", "bucket"), [(2, 1), (3, 100), (3, 25 << 20), (4, 100)])
@pytest.mark.parametrize(("name", "tolerance"), [("float32", 3e-6), ("float64", 1e-14)])
def test_parts_of_a_batch_have_its_gradient(
    count: int, bucket: int, name: str, tolerance: float
) -> None:
    whole = gradient(None, getattr(torch, name))
    ranks = run_together(shared_gradient, name, bucket, uid=new_uid(), count=count)
    assert sum(float(np.abs(each).sum()) for each in whole) > 1
    for of_rank in ranks:
        for mean, plain, wanted, first in zip(*of_rank, whole, ranks[0][0], strict=True):
            np.testing.assert_allclose(mean, wanted, rtol=0, atol=tolerance)
            np.testing.assert_array_equal(mean, plain)
            np.testing.assert_array_equal(mean, first)


def compressed_gradient(rank: int, count: int, uid: bytes) -> Any:
    team = join_team(uid, rank, count, CPU, patience_s=30)
    return gradient(team, torch.float32, more="compress: BFLOAT16")


@pytest.mark.parametrize("count", [2, 3])
def test_gradients_can_travel_in_bfloat16(count: int) -> None:
    whole = gradient(None, torch.float32)
    ranks = run_together(compressed_gradient, uid=new_uid(), count=count)
    differs = False
    for of_rank in ranks:
        for mean, wanted, first in zip(of_rank, whole, ranks[0], strict=True):
            # Each number and each sum has 8 bits; terms of a sum may be larger than the sum.
            largest = float(np.abs(wanted).max())
            np.testing.assert_allclose(mean, wanted, rtol=0, atol=count * 2**-8 * largest)
            np.testing.assert_array_equal(mean, first)
            differs |= float(np.abs(mean - wanted).max()) > 2**-12 * largest > 0
    assert differs


SOLVER = """
base_lr: 0.05 lr_policy: "fixed" weight_decay: 0.01 snapshot_after_train: false random_seed: 3
iter_size: 2 clip_gradients: 0.9 net_param {
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 6 backend: LMDB }
  transform_param { crop_size: 6 mirror: true scale: 0.004 } }
layer { name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" } }
"""


def solved(team: Team | None, more: str) -> list[Any]:
    message = parse_text(SOLVER + more, caffe_pb2.SolverParameter)
    solver = Solver(message, team=team, splits_batches=team is not None)
    solver.step(5)
    weights = [w.detach().numpy().copy() for w in solver.net.parameters()]
    solver.close()
    return weights


def solved_together(rank: int, count: int, uid: bytes, more: str) -> list[Any]:
    return solved(join_team(uid, rank, count, CPU, patience_s=30), more)


MOMENTUM = {"AdaGrad": "", "RMSProp": "rms_decay: 0.9", "AdaDelta": "momentum: 0.95 delta: 1e-4"}


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("type_", RULES)
def test_every_solver_trains_alike(
    type_: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = f'type: "{type_}" {MOMENTUM.get(type_, "momentum: 0.9")}'
    whole = solved(None, more)
    for of_rank in run_together(solved_together, more, uid=new_uid(), count=3):
        for shared, alone in zip(of_rank, whole, strict=True):
            np.testing.assert_allclose(shared, alone, rtol=1e-4, atol=2e-6)


def messages_of_passes(rank: int, count: int, uid: bytes) -> int:
    """How many averages start in an iteration of two passes."""
    team = join_team(uid, rank, count, CPU, patience_s=30)
    solver = Solver(parse_text(SOLVER, caffe_pb2.SolverParameter), team=team)
    begin, started = team.begin_average, []

    def count_and_begin(tensors: Any, *more: Any) -> Any:
        started.append(len(tensors))
        return begin(tensors, *more)

    monkey: Any = team
    monkey.begin_average = count_and_begin
    solver.step(1)
    solver.close()
    return len(started)


@pytest.mark.usefixtures("database")
def test_several_passes_are_averaged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_together(messages_of_passes, uid=new_uid()) == [1, 1]


def starts_before_the_end(rank: int, count: int, uid: bytes) -> bool:
    """Whether the last layer's gradients travel before the first layer's are computed."""
    reduce.BUCKET_BYTES = 1
    team = join_team(uid, rank, count, CPU, patience_s=30)
    message = parse_text(NET % (4, 4), caffe_pb2.NetParameter)
    net = build_net(message, caffe_pb2.TRAIN)
    mean = GradientMean(net, team, caffe_pb2.SolverParameter())
    seen: list[int] = []
    first = net.parameter_of(net.learnable[0])
    first.register_hook(lambda _: seen.append(len(mean._under_way)))  # type: ignore[no-untyped-call]
    with mean.overlapped():
        Autograd(net).forward_backward()
    mean.on_gradients_ready()
    return seen[0] >= 3


def test_gradients_travel_while_the_pass_goes_on() -> None:
    assert all(run_together(starts_before_the_end, uid=new_uid()))
