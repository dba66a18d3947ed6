"""A training run with everything random in it: data, crops, mirrors, dropout, fillers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.report.records import IterationCompleted, Record
from moka.schema import caffe_pb2, parse_text
from moka.solver.snapshots.state_file import write_state
from moka.solver.solver import Solver

SolverMaker = Callable[..., Solver]

LINEAR = """
name: "linear"
layer {
  name: "data" type: "DummyData" top: "x" top: "t"
  dummy_data_param {
    shape { dim: 4 dim: 3 } shape { dim: 4 dim: 1 }
    data_filler { value: 0.5 } data_filler { value: 2 }
  }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 weight_filler { type: "gaussian" } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
RANDOM = """
name: "random"
layer {
  name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 4 backend: LMDB }
  transform_param { crop_size: 5 mirror: true scale: 0.004 mean_value: 128 }
}
layer {
  name: "ip1" type: "InnerProduct" bottom: "data" top: "ip1"
  inner_product_param { num_output: 8 weight_filler { type: "xavier" } }
}
layer { name: "drop" type: "Dropout" bottom: "ip1" top: "ip1" }
layer {
  name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"""
PLAIN = """
name: "plain"
layer {
  name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 4 backend: LMDB }
  transform_param { scale: 0.004 }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "data" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
HDF5 = """
name: "hdf5"
layer {
  name: "data" type: "HDF5Data" top: "x" top: "t"
  hdf5_data_param { source: "rows.txt" batch_size: 2 shuffle: true }
}
layer {
  name: "ip" type: "InnerProduct" bottom: "x" top: "y"
  inner_product_param { num_output: 1 weight_filler { type: "gaussian" } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
RECURRENT = """
name: "recurrent"
layer {
  name: "data" type: "DummyData" top: "x" top: "cont" top: "t"
  dummy_data_param {
    shape { dim: 3 dim: 2 dim: 4 } shape { dim: 3 dim: 2 } shape { dim: 3 dim: 2 dim: 5 }
    data_filler { type: "gaussian" } data_filler { value: 1 } data_filler { type: "gaussian" }
  }
}
layer {
  name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
  recurrent_param { num_output: 6 weight_filler { type: "xavier" } }
}
layer {
  name: "rnn" type: "RNN" bottom: "h" bottom: "cont" top: "y"
  recurrent_param { num_output: 5 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""
NETS = {
    "hdf5": HDF5,
    "no_parameters": LINEAR[: LINEAR.index('layer {\n  name: "ip"')],
    "linear": LINEAR,
    "random": RANDOM,
    "plain": PLAIN,
    "recurrent": RECURRENT,
    "plain_20": PLAIN.replace("batch_size: 4", "batch_size: 20"),
}


def solver_message(text: str, net: str = "linear") -> caffe_pb2.SolverParameter:
    """A solver of one of the nets; the text adds fields and overrules others."""
    message = parse_text(
        'base_lr: 0.1 lr_policy: "fixed" snapshot_after_train: false snapshot_prefix: "snap"'
        f" test_initialization: false random_seed: 3 net_param {{ {NETS[net]} }}",
        caffe_pb2.SolverParameter,
    )
    message.MergeFrom(parse_text(text, caffe_pb2.SolverParameter))
    return message


def weights(solver: Solver) -> list[Tensor]:
    """Copies of all parameters."""
    return [w.detach().clone() for layer in solver.net.layers for w in layer.weights]


def iterations(records: list[Record]) -> list[IterationCompleted]:
    return [r for r in records if isinstance(r, IterationCompleted)]


def put_snapshot(stem: str, end: str = "", *, state: bool = True, model: bool = True) -> None:
    """Files as a snapshot leaves them, the model an empty one."""
    if state:
        message = caffe_pb2.SolverState(iter=1, learned_net=f"{stem}.caffemodel{end}")
        write_state(f"{stem}.solverstate{end}", message, hdf5=bool(end))
    if model:
        Path(f"{stem}.caffemodel{end}").touch()


@pytest.fixture
def make_solver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SolverMaker]:
    """make_solver("base_lr: 0.1 ...", net="linear", records=[...]); closed at the end.

    In a folder of its own; what is announced goes to `records`.
    """
    monkeypatch.chdir(tmp_path)
    made: list[Solver] = []

    def make(
        text: str = "",
        net: str = "linear",
        records: list[Record] | None = None,
        *,
        keep_blobs: bool = False,
    ) -> Solver:
        listeners = [] if records is None else [records.append]
        made.append(Solver(solver_message(text, net), listeners=listeners, keep_blobs=keep_blobs))
        return made[-1]

    yield make
    for solver in made:
        solver.close()


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database "db" of ten images (1, 8, 8) with labels 0, 1, 2, 0, ..."""
    rng = np.random.default_rng(3)
    with LmdbWriter(tmp_path / "db") as writer:
        for i in range(10):
            image = rng.integers(0, 256, (1, 8, 8), np.uint8)
            writer.put(b"%02d" % i, datum.encode(image, i % 3).SerializeToString())
    return "db"
