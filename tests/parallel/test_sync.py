"""Several processes with a part of the batch each normalize as one process with the whole batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.processes import run_together

from moka.errors import NetError
from moka.net import Net, build_net
from moka.parallel.join import join_team, new_uid
from moka.parallel.reduce import GradientMean
from moka.parallel.sync import SharedStatistics
from moka.parallel.team import Team
from moka.schema import caffe_pb2, parse_text

BATCH = 12
CPU = torch.device("cpu")
NET = """
layer { name: "in" type: "Input" top: "x" top: "t" input_param {
  shape { dim: %d dim: 2 dim: 4 dim: 3 } shape { dim: %d } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "norm" bottom: "conv" top: "norm" %s }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "ip" type: "InnerProduct" bottom: "norm" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "again" type: "BatchNorm" bottom: "ip" top: "again" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "again" bottom: "t" top: "loss" }
"""
LAYERS = {
    "plain": 'type: "BatchNorm"',
    "scaled": 'type: "BatchNorm" batch_norm_param { scale_bias: true eps: 0.01 }',
    "both": 'type: "BatchNorm" batch_norm_param { use_global_stats: true'
    " update_global_stats: true }",
    "bn": 'type: "BN" bn_param { slope_filler { value: 0.7 } eps: 0.001 }',
    "segnet": 'type: "BN" bn_param { scale_filler { value: 0.7 } bn_mode: LEARN }',
    "ctpn": 'type: "BN" bn_param { axis: 1 moving_average: true decay: 0.1 }',
    "dense": 'type: "DenseBlock" denseblock_param { numTransition: 2 growthRate: 2'
    ' Filter_Filler { type: "xavier" } BN_Scaler_Filler { value: 1 } }',
}


def passed(team: Team | None, layer: str, *, everywhere: bool = True) -> list[Any]:
    """Loss, parameters after two passes (the statistics change) and their gradients."""
    rank, size = (team.rank, team.size) if team else (0, 1)
    torch.manual_seed(5)
    message = parse_text(NET % (BATCH // size, BATCH // size, layer), caffe_pb2.NetParameter)
    net: Net = build_net(message, caffe_pb2.TRAIN).double()
    x, t = torch.randn(2, BATCH, 2, 4, 3).double() + 3, torch.arange(BATCH) % 4
    if team:
        SharedStatistics(net, team, everywhere=everywhere)
        mean = GradientMean(net, team, caffe_pb2.SolverParameter())
    losses = []
    for turn, images in enumerate(x):
        part = {"x": images[rank::size], "t": t[rank::size].double()}
        loss = net.propagate(part)["loss"].sum()
        if team:
            with mean.overlapped(is_whole=turn == 1):
                loss.backward()  # type: ignore[no-untyped-call]
            team.average([loss.detach()])
        else:
            loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
    if team:
        mean.on_gradients_ready()
    parameters = [net.parameter_of(blob) for blob in net.learnable]
    gradients = [np.zeros(p.shape) if p.grad is None else p.grad.numpy().copy() for p in parameters]
    return [np.array(losses), *(p.detach().numpy().copy() for p in parameters), *gradients]


def passed_together(rank: int, count: int, uid: bytes, layer: str) -> list[Any]:
    return passed(join_team(uid, rank, count, CPU, patience_s=30), layer)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_processes_normalize_as_one(layer: str) -> None:
    whole = passed(None, layer)
    assert sum(float(np.abs(each).sum()) for each in whole) > 1
    for of_rank in run_together(passed_together, layer, uid=new_uid(), count=3):
        for found, wanted in zip(of_rank, whole, strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def of_one_layer(rank: int, count: int, uid: bytes) -> tuple[list[Any], list[Any], list[Any]]:
    team = join_team(uid, rank, count, CPU, patience_s=30)
    return (
        passed(team, 'type: "SyncBN"'),
        passed(team, 'type: "SyncBN"', everywhere=False),
        passed(team, 'type: "BN"', everywhere=False),
    )


def test_a_sync_bn_always_does() -> None:
    for everywhere, by_type, neither in run_together(of_one_layer, uid=new_uid()):
        # Behind the losses lie the parameters: 2 of the convolution, 4 of the BN, 2, 3.
        mean, variance, of_batch_norm = 5, 6, 10
        np.testing.assert_array_equal(by_type[mean], everywhere[mean])
        np.testing.assert_array_equal(by_type[variance], everywhere[variance])
        assert not np.array_equal(neither[variance], by_type[variance])
        assert not np.array_equal(by_type[of_batch_norm], everywhere[of_batch_norm])


def with_parts(rank: int, count: int, uid: bytes, option: str) -> str:
    team = join_team(uid, rank, count, CPU, patience_s=30)
    with pytest.raises(NetError) as error:
        passed(team, f'type: "BatchNorm" batch_norm_param {{ {option} }}')
    return str(error.value)


@pytest.mark.parametrize("option", ["stats_batch_size: 2", "disable_mean: true"])
def test_statistics_of_parts_cannot_be_put_together(option: str) -> None:
    for said in run_together(with_parts, option, uid=new_uid()):
        assert 'layer "norm" (BatchNorm)' in said
        assert "Leave sync_bn out" in said


def alone_and_left_out(rank: int, count: int, uid: bytes) -> bool:
    team = join_team(uid, rank, count, CPU, patience_s=30)
    message = parse_text(NET % (4, 4, LAYERS["plain"]), caffe_pb2.NetParameter)
    net = build_net(message, caffe_pb2.TRAIN)
    shared = SharedStatistics(net, team, everywhere=True)
    if rank == 0:  # nobody answers
        with shared.left_out():
            net.propagate({"x": torch.randn(4, 2, 4, 3), "t": torch.zeros(4)})
    return team.any(True)[0]


def test_a_process_can_make_a_pass_by_itself() -> None:
    assert run_together(alone_and_left_out, uid=new_uid()) == [True, True]
