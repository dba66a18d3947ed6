"""A folder with everything a small training run needs, and the program run inside the process."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from moka.cli.main import main
from moka.data import datum
from moka.data.lmdb import LmdbWriter
from moka.schema import blobproto, write_binary

SOLVER = """
net: "net.prototxt"
test_iter: 2
test_interval: 4
base_lr: 0.01
lr_policy: "fixed"
display: 2
max_iter: 4
snapshot: 2
snapshot_prefix: "snap"
random_seed: 5
solver_mode: CPU
"""
NET = """
name: "small"
layer {
  name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "train_lmdb" batch_size: 4 backend: LMDB }
  transform_param { mean_file: "mean.binaryproto" scale: 0.01 }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "ip" type: "InnerProduct" bottom: "conv" top: "ip"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer {
  name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy"
  include { phase: TEST }
}
"""
LINE = re.compile(r"^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d{6}\s+\d+ [\w./\\-]+:\d+\] (.*)$")


class Run(NamedTuple):
    """What one run of the program left behind."""

    code: int
    out: str
    err: str

    def messages(self, severities: str = "IWEF") -> list[str]:
        """The messages of log lines with one of these severity letters."""
        found = [LINE.match(line) for line in self.err.splitlines()]
        return [m[2] for m in found if m and m[1] in severities]


Caffe = Callable[..., Run]


@pytest.fixture
def caffe(capsys: pytest.CaptureFixture[str]) -> Caffe:
    """caffe("train", "-solver", ...): runs the program in this process."""

    def run(*argv: str) -> Run:
        capsys.readouterr()
        code = main(argv)
        return Run(code, *capsys.readouterr())

    return run


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory: solver.prototxt, net.prototxt, train_lmdb, mean.binaryproto."""
    monkeypatch.chdir(tmp_path)
    Path("solver.prototxt").write_text(SOLVER)
    Path("net.prototxt").write_text(NET)
    write_database("train_lmdb", 12)
    write_binary("mean.binaryproto", blobproto.from_array(np.full((1, 1, 6, 6), 100, np.float32)))
    return tmp_path


def write_database(path: str, count: int) -> None:
    """A database of images of one channel, 6 x 6, with labels 0, 1, 2, 0, ..."""
    rng = np.random.default_rng(3)
    with LmdbWriter(path) as writer:
        for i in range(count):
            image = rng.integers(0, 256, (1, 6, 6), np.uint8)
            writer.put(b"%08d" % i, datum.encode(image, i % 3).SerializeToString())
