"""Processes with a part of the parameters each do what one process with all of them does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import NetMaker
from tests.processes import run_together
from tests.training_runs import database
from torch.distributed import fsdp

from moka.engine.segments import best_ends
from moka.errors import SolverError
from moka.parallel import shard
from moka.parallel.join import join_team, new_uid
from moka.parallel.shard import Sharding, is_divided
from moka.parallel.team import Alone, Team
from moka.report.records import TestCompleted
from moka.schema import caffe_pb2, parse_text
from moka.solver.config import check_solver
from moka.solver.solver import Solver
from moka.weights import read_model

__all__ = ["database"]

CPU = torch.device("cpu")
NET = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: %s }
  data_param { source: "db" batch_size: 6 backend: LMDB }
  transform_param { crop_size: 6 mirror: true scale: 0.004 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 5 kernel_size: 3 bias_term: false
    weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv"
  batch_norm_param { scale_bias: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "a" type: "InnerProduct" bottom: "conv" top: "a" param { name: "w" }
  inner_product_param { num_output: 80 weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "same" }
  inner_product_param { num_output: 80 weight_filler { type: "xavier" } } }
layer { name: "c" type: "InnerProduct" bottom: "b" top: "c" param { name: "same" }
  inner_product_param { num_output: 80 weight_filler { type: "xavier" } } }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
base_lr: 0.02 lr_policy: "fixed" random_seed: 3 weight_decay: 0.01 snapshot_prefix: "run"
test_iter: 2 test_interval: 2 sync_bn: true display: 2 snapshot: 2 snapshot_keep: 1 max_iter: 4 %s
"""
LAYER = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }'
MORE = {
    "momentum": "momentum: 0.9 clip_gradients: 0.5",
    "adam": 'type: "Adam" momentum: 0.9 iter_size: 2 delta: 1e-3',
    "rmsprop": 'type: "RMSProp" rms_decay: 0.9 delta: 1e-2 regularization_type: "L1"',
}


def made(team: Team | None, more: str) -> Solver:
    message = parse_text(SOLVER % more, caffe_pb2.SolverParameter)
    message.train_net_param.CopyFrom(parse_text(NET % "TRAIN", caffe_pb2.NetParameter))
    message.test_net_param.add().CopyFrom(parse_text(NET % "TEST", caffe_pb2.NetParameter))
    return Solver(message, team=team, splits_batches=team is not None)


def solved(team: Team | None, more: str, folder: str, *, recompute: bool = False) -> list[Any]:
    """Numbers of bytes that the process keeps, and what its listeners have heard of losses."""
    os.chdir(folder)
    solver = made(team, more)
    if recompute:
        solver.engine.segment_ends = best_ends(solver.net)
    heard: list[Any] = []

    def hear(record: Any) -> None:
        heard.append(getattr(record, "loss", None))
        if isinstance(record, TestCompleted):  # outputs in training are the first process's
            heard.extend(output.value for output in record.outputs)

    solver.listeners.append(hear)
    solver.solve()
    solver.close()
    kept = sum(p.values.numel() + p.grad.numel() for p in solver._params)
    kept += sum(history.numel() for history in solver.rule.history())
    return [kept, [number for number in heard if number is not None]]


def solved_together(rank: int, count: int, uid: bytes, more: str, folder: str) -> list[Any]:
    shard.SMALLEST = 100
    team = join_team(uid, rank, count, CPU, patience_s=30)
    return solved(team, more, folder, recompute="rms_decay" in more)


def arrays(file: Path) -> list[Any]:
    return [
        (layer.name, [np.array(blob.data) for blob in layer.blobs])
        for layer in read_model(file).layer
        if layer.blobs
    ]


@pytest.mark.parametrize(
    ("more", "count"),
    [
        (MORE["momentum"], 3),
        pytest.param(MORE["momentum"], 2, marks=pytest.mark.slow),
        pytest.param(MORE["adam"], 2, marks=pytest.mark.slow),
        pytest.param(MORE["adam"], 3, marks=pytest.mark.slow),
        pytest.param(MORE["rmsprop"], 2, marks=pytest.mark.slow),
    ],
)
def test_parts_are_trained_as_the_whole(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch, more: str, count: int
) -> None:
    monkeypatch.chdir(tmp_path)
    together, alone = tmp_path / "together", tmp_path / "alone"
    for folder in (together, alone):
        folder.mkdir()
        os.symlink(tmp_path / "db", folder / "db")
    whole, losses = solved(None, more, str(alone))
    ranks = run_together(
        solved_together, more + " shard: true", str(together), uid=new_uid(), count=count
    )
    assert ranks[0][1] == pytest.approx(losses, rel=1e-4)
    assert max(kept for kept, _ in ranks) < 0.8 * whole  # w and "same" are large; one is shared
    names = sorted(file.name for file in alone.glob("run_*"))
    assert names == sorted(file.name for file in together.glob("run_*"))
    (model,) = (name for name in names if name.endswith(".caffemodel"))
    for (name, found), (same, wanted) in zip(
        arrays(together / model), arrays(alone / model), strict=True
    ):
        assert name == same
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)
    # The files are whole: one process goes on from those of several.
    monkeypatch.chdir(together)
    resumed, straight = made(None, more), made(None, more)
    resumed.restore("run_iter_4.solverstate")
    monkeypatch.chdir(alone)
    straight.restore("run_iter_4.solverstate")
    for a, b in zip(resumed.rule.history(), straight.rule.history(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)
        assert a.shape == b.shape


def resumed_together(rank: int, count: int, uid: bytes, folder: str) -> list[Any]:
    shard.SMALLEST = 100
    os.chdir(folder)
    solver = made(join_team(uid, rank, count, CPU, patience_s=30), MORE["adam"] + " shard: true")
    solver.restore("run_iter_4.solverstate")
    divided = sum(is_divided(p.parameter) for p in solver._params)
    own = [p.values.numpy().copy() for p in solver._params]
    histories = [history.numpy().copy() for history in solver.rule.history()]
    solver.close()
    return [divided, own, histories]


def test_parts_are_read_from_whole_files(
    tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    solved(None, MORE["adam"], str(tmp_path))
    whole = made(None, MORE["adam"])
    whole.restore("run_iter_4.solverstate")
    ranks = run_together(resumed_together, str(tmp_path), uid=new_uid(), count=2)
    first, second = ranks
    assert first[0] == second[0] > 0
    wanted = [p.values.numpy() for p in whole._params]
    wanted += [history.numpy() for history in whole.rule.history()]
    for a, b, both in zip(first[1] + first[2], second[1] + second[2], wanted, strict=True):
        joined = a if a.shape == both.shape else np.concatenate([a, b])
        np.testing.assert_array_equal(joined, both)


@pytest.mark.parametrize("more", ["larc: true momentum: 0.9", "ema_decay: 0.9"])
def test_what_needs_whole_parameters_is_refused(more: str) -> None:
    message = parse_text(f'base_lr: 1 lr_policy: "fixed" shard: true {more}',
                         caffe_pb2.SolverParameter)  # fmt: skip
    with pytest.raises(SolverError, match="do not go together"):
        check_solver(message, "solver.prototxt")


def test_an_old_pytorch_is_told(make_net: NetMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdp, "fully_shard", lambda module, *, mesh: None)
    with pytest.raises(SolverError, match="newer PyTorch than"):
        Sharding(make_net(LAYER), Alone())
