"""Long runs of small nets: memory and open files must stay as they are.

    python benchmarks/soak.py --training 50 --threads 10

First it trains one net with tests, snapshots and everything that keeps records (log file, JSON,
TensorBoard), and starts a new run when one has ended. Then 8 threads run 4 nets each, forward and
backward, as a server's threads do. Each part prints ten times what the process holds; the exit code
is 1 if memory has grown by more than --megabytes since the part had warmed up, or if files or
threads have become more.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import caffe
from moka.cli.main import main as moka_main
from moka.data import datum
from moka.data.lmdb import LmdbWriter

SAMPLES = 10  # of what the process holds, in each part
WARM = 3  # the sample from which on memory must not grow
NET = """
name: "soak"
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 16 backend: LMDB }
  transform_param { crop_size: 20 mirror: true scale: 0.004 mean_value: 128 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "drop" type: "Dropout" bottom: "pool" top: "pool" }
layer { name: "ip" type: "InnerProduct" bottom: "pool" top: "ip"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
"""
SOLVER = """
net: "net.prototxt" test_iter: 4 test_interval: 50 base_lr: 0.01 momentum: 0.9 lr_policy: "fixed"
max_iter: 1000 display: 20 snapshot: 50 snapshot_keep: 2 snapshot_prefix: "snap" random_seed: 1
solver_mode: CPU
"""
DEPLOY = """
name: "deploy"
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 4 dim: 1 dim: 20 dim: 20 } } }
""" + NET[NET.index('layer { name: "conv"') : NET.index('layer { name: "loss"')]


@dataclass(frozen=True)
class Held:
    """What the process holds: memory in bytes, open files, threads."""

    memory: int
    files: int
    threads: int

    def __str__(self) -> str:
        return f"{self.memory / 2**20:.1f} MB, {self.files} files, {self.threads} threads"

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = len(os.listdir("/proc/self/fd"))
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), files, threading.active_count())


def watch(name: str, minutes: float, work: Callable[[], int], megabytes: float) -> bool:
    """Do the work over and over; print what is held; return whether it has stayed the same."""
    start_s = time.perf_counter()
    count, held = 0, [Held.now()]
    while len(held) <= SAMPLES:
        count += work()
        done = (time.perf_counter() - start_s) / (60 * minutes)
        if done >= len(held) / SAMPLES:
            held.append(Held.now())
            print(f"{name}: {done * minutes:.1f} min, {count} passes, {held[-1]}", flush=True)
    warm, last = held[WARM], held[-1]
    grown = (last.memory - warm.memory) / 2**20
    print(f"{name}: grown by {grown:+.1f} MB since sample {WARM}", flush=True)
    return grown <= megabytes and (last.files, last.threads) <= (warm.files, warm.threads)


def train() -> int:
    """One run; returns its iterations."""
    records = ("--log_dir=logs", "--json_log=run.jsonl", "--tensorboard=runs")
    assert moka_main(("train", "--solver=solver.prototxt", "--quiet", *records)) == 0
    for path in (*Path("logs").iterdir(), *Path("runs").iterdir(), Path("run.jsonl")):
        path.unlink()
    return 1000


def run_nets(threads: int = 8, nets: int = 4, passes: int = 20) -> int:
    """Some passes of new nets in several threads; returns how many."""
    failed: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            made = [caffe.Net("deploy.prototxt", caffe.TEST) for _ in range(nets)]
            rng = np.random.default_rng(seed)
            for _ in range(passes):
                for net in made:
                    net.blobs["data"].data[...] = rng.random((4, 1, 20, 20), np.float32)
                    net.forward()
                    net.blobs["ip"].diff[...] = 1
                    net.backward()
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            failed.append(error)

    running = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    if failed:
        raise failed[0]
    return threads * nets * passes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=float, default=50, help="minutes")
    parser.add_argument("--threads", type=float, default=10, help="minutes")
    parser.add_argument("--megabytes", type=float, default=16, help="that memory may grow by")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, text in (("net", NET), ("solver", SOLVER), ("deploy", DEPLOY)):
            Path(f"{name}.prototxt").write_text(text)
        rng = np.random.default_rng(1)
        with LmdbWriter("db") as writer:
            for k in range(200):
                image = rng.integers(0, 256, (1, 24, 24), np.uint8)
                writer.put(b"%04d" % k, datum.encode(image, k % 5).SerializeToString())
        is_flat = [
            watch("training", given.training, train, given.megabytes),
            watch("threads", given.threads, run_nets, given.megabytes),
        ]
        os.chdir("/")
    return 0 if all(is_flat) else 1


if __name__ == "__main__":
    sys.exit(main())
