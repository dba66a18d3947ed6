"""LeNet training, batch 64: `caffe train`'s loop beside plain PyTorch loops of the same net.

    python benchmarks/lenet_training.py [--device cpu|cuda] [--rounds N]

Needs the databases of examples/mnist (`examples/mnist/get_data`). Every contender is a process of
its own; they take turns. "data feed included" means: read from the LMDB database, decoded, scaled.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import torch
import torch.nn.functional as F
from side_by_side import Contender, compare
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import moka
from moka.report.caffe_log import log_record
from moka.schema import caffe_pb2
from moka.solver.solver import Solver

ROOT = Path(__file__).resolve().parent.parent
TRAIN = ROOT / "examples/mnist/mnist_train_lmdb"
BATCH = 64
Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


class LeNet(nn.Module):
    """As a PyTorch user writes it down from the paper's figure."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.ip1 = nn.Linear(800, 500)
        self.ip2 = nn.Linear(500, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2, 2)
        x = F.max_pool2d(self.conv2(x), 2, 2)
        return self.ip2(F.relu(self.ip1(x.flatten(1))))


class Digits(Dataset[tuple[Tensor, int]]):
    """The same database as a map-style data set."""

    def __init__(self) -> None:
        self.env: Any = None
        with lmdb.open(str(TRAIN), readonly=True, lock=False) as env:
            self.count = int(env.stat()["entries"])

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.env is None:
            self.env = lmdb.open(str(TRAIN), readonly=True, lock=False)
        with self.env.begin() as transaction:
            datum = caffe_pb2.Datum.FromString(transaction.get(f"{index:08d}".encode()))
        pixels = np.frombuffer(datum.data, np.uint8).reshape(1, 28, 28)
        return torch.from_numpy(pixels.astype(np.float32) / 256), datum.label


def moka_training(device: str) -> Callable[[int], None]:
    """The solver that `caffe train` runs, with its log going nowhere."""
    os.chdir(ROOT)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    config = caffe_pb2.SolverParameter(
        net="examples/mnist/lenet_train_test.prototxt",
        base_lr=0.01,
        momentum=0.9,
        weight_decay=0.0005,
        lr_policy="inv",
        gamma=0.0001,
        power=0.75,
        display=100,
        snapshot_prefix=f"{tempfile.mkdtemp()}/lenet",
    )
    moka.keep_freed_memory()  # as `caffe train` does
    return Solver(config, listeners=[log_record], device=torch.device(device)).step


def batches_in_memory() -> Iterator[tuple[Tensor, Tensor]]:
    """One batch over and over: no feed at all."""
    x, y = torch.rand(BATCH, 1, 28, 28), torch.randint(10, (BATCH,))
    while True:
        yield x, y


def batches_from_loader(workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """PyTorch's DataLoader over the database, in order."""
    while True:
        yield from DataLoader(
            Digits(), BATCH, num_workers=workers, drop_last=True, persistent_workers=workers > 0
        )


def plain_training(device: str, batches: Batches) -> Callable[[int], None]:
    """The usual loop: NCHW, torch.optim.SGD, loss.item() as a loop that prints it."""
    net = LeNet().to(device)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=0.0005)
    source = batches()

    def run(iterations: int) -> None:
        for _ in range(iterations):
            x, y = next(source)
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x.to(device)), y.to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    device = args.device
    peers: dict[str, Batches] = {
        "torch, data in memory (no feed)": batches_in_memory,
        "torch, DataLoader, 0 workers": partial(batches_from_loader, 0),
        "torch, DataLoader, 1 worker": partial(batches_from_loader, 1),
    }
    contenders: dict[str, Contender] = {"moka (caffe train)": partial(moka_training, device)}
    for name, feed in peers.items():
        contenders[name] = partial(plain_training, device, feed)
    result = compare(contenders, rounds=args.rounds)
    moka = result["moka (caffe train)"].ms
    print(f"LeNet training, batch {BATCH}, {device}, {torch.get_num_threads()} threads")
    print(f"{'':34}{'ms/iteration':>13}{'ratio to moka':>15}{'peak MB':>9}")
    for name, timing in result.items():
        print(f"{name:34}{timing.ms:13.2f}{timing.ms / moka:15.2f}{timing.peak_mb:9.0f}")


if __name__ == "__main__":
    main()
