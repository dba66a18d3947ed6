"""What pycaffe's face costs: LeNet's `net.forward()` beside its layers' functions alone, and a loop
of `solver.step(1)` beside `caffe train`'s.

    python benchmarks/pycaffe_forward.py [--rounds N] [--threads N]

Contenders take turns in one process; the medians are compared. Data lies in memory.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import caffe
from moka.report.caffe_log import log_record
from moka.solver.solver import Solver

BODY = """
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" convolution_param {
  num_output: 20 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1" pooling_param {
  kernel_size: 2 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2" convolution_param {
  num_output: 50 kernel_size: 5 weight_filler { type: "xavier" } } }
layer { name: "pool2" type: "Pooling" bottom: "conv2" top: "pool2" pooling_param {
  kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool2" top: "ip1" inner_product_param {
  num_output: 500 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2" inner_product_param {
  num_output: 10 weight_filler { type: "xavier" } } }
"""
DEPLOY = """
layer {{ name: "data" type: "Input" top: "data" input_param {{
  shape {{ dim: {batch} dim: 1 dim: 28 dim: 28 }} }} }}
{body} layer {{ name: "prob" type: "Softmax" bottom: "ip2" top: "prob" }}
"""
TRAIN = """
layer {{ name: "data" type: "DummyData" top: "data" top: "label" dummy_data_param {{
  shape {{ dim: 64 dim: 1 dim: 28 dim: 28 }} shape {{ dim: 64 }}
  data_filler {{ value: 0.5 }} data_filler {{ value: 3 }} }} }}
{body} layer {{ name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }}
"""
SOLVER = """
train_net: "train.prototxt" base_lr: 0.01 momentum: 0.9 weight_decay: 0.0005 lr_policy: "inv"
gamma: 0.0001 power: 0.75 display: 100 snapshot_after_train: false
"""


def take_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each contender's call; a few rounds to warm up are not counted."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(5):
        for call in contenders.values():
            call()
    for _ in range(rounds):
        for name, call in contenders.items():
            start = perf_counter()
            call()
            times[name].append(perf_counter() - start)
    return {name: median(found) for name, found in times.items()}


def functions(net: caffe.Net) -> Callable[[], Tensor]:
    """The net's tensor functions, one after the other, as one writes them down in PyTorch."""
    (w1, b1), (w2, b2), (w3, b3), (w4, b4) = (
        [torch.from_numpy(blob.data) for blob in blobs] for blobs in net.params.values()
    )
    x = torch.from_numpy(net.blobs["data"].data)

    @torch.no_grad()
    def run() -> Tensor:
        h = F.max_pool2d(F.conv2d(x, w1, b1), 2, 2)
        h = F.max_pool2d(F.conv2d(h, w2, b2), 2, 2)
        h = torch.relu(F.linear(h.flatten(1), w3, b3))
        return torch.softmax(F.linear(h, w4, b4), 1)

    return run


def compare_forward(batch: int, rounds: int) -> None:
    Path("deploy.prototxt").write_text(DEPLOY.format(batch=batch, body=BODY))
    net = caffe.Net("deploy.prototxt", caffe.TEST)
    net.blobs["data"].data[...] = np.random.default_rng(0).random((batch, 1, 28, 28))
    layers = [layer for layer in net._net.layers if layer.entry.source is None]

    @torch.no_grad()
    def run_layers() -> None:
        x = net._net.blobs["data"].data_memory.tensor()
        for layer in layers:
            made = layer(x)
            x = made if isinstance(made, Tensor) else made[0]

    us = {
        name: seconds * 1e6
        for name, seconds in take_turns(
            {"functions": functions(net), "layers": run_layers, "face": net.forward}, rounds
        ).items()
    }
    print(
        f"net.forward(), batch {batch}: {us['face']:.0f} us; PyTorch's functions"
        f" {us['functions']:.0f} us ({us['face'] - us['functions']:+.0f} us), the layers' functions"
        f" {us['layers']:.0f} us ({us['face'] - us['layers']:+.0f} us)"
    )


def compare_step(rounds: int) -> None:
    Path("train.prototxt").write_text(TRAIN.format(body=BODY))
    Path("solver.prototxt").write_text(SOLVER)
    train = Solver("solver.prototxt", listeners=[log_record])
    face = caffe.get_solver("solver.prototxt")
    s = take_turns({"train": lambda: train.step(1), "face": lambda: face.step(1)}, rounds)
    print(
        f"solver.step(1), batch 64: {s['face'] * 1e3:.2f} ms; caffe train {s['train'] * 1e3:.2f} ms"
        f" (ratio {s['face'] / s['train']:.3f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.chdir(tempfile.mkdtemp())
    compare_forward(1, 10 * args.rounds)
    compare_forward(64, args.rounds)
    compare_step(args.rounds)


if __name__ == "__main__":
    main()
