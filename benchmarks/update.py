"""The update of CaffeNet's 61 million parameters: every solver type beside torch.optim.

    python benchmarks/update.py [--device cpu|cuda] [--rounds N]

Gradients are there already; measured is what turns them into new weights. Weights learn at rate 1,
biases at 2 without decay, as in the reference net. torch.optim has the same two groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from side_by_side import Contender, compare
from torch import nn

import moka
from moka.schema import caffe_pb2
from moka.solver.choose import rule_class
from moka.solver.learnable import Learnable
from moka.solver.update import apply_update

SHAPES = [  # CaffeNet's weights and biases
    *((96, 3, 11, 11), (96,), (256, 48, 5, 5), (256,), (384, 256, 3, 3), (384,)),
    *((384, 192, 3, 3), (384,), (256, 192, 3, 3), (256,), (4096, 9216), (4096,)),
    *((4096, 4096), (4096,), (1000, 4096), (1000,)),
]
RATE, DECAY = 0.01, 0.0005


def parameters(device: str) -> list[nn.Parameter]:
    made = [nn.Parameter(torch.randn(shape, device=device) * 0.01) for shape in SHAPES]
    for parameter in made:
        parameter.grad = torch.randn_like(parameter) * 0.01
    return made


def waiting(device: str, step: Callable[[int], object]) -> Callable[[int], None]:
    """Run that many steps, and wait for the device."""

    def run(iterations: int) -> None:
        for i in range(iterations):
            step(i)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def moka_update(solver_type: str, fields: dict[str, Any], device: str) -> Callable[[int], None]:
    config = caffe_pb2.SolverParameter(type=solver_type, weight_decay=DECAY, **fields)
    params = [
        Learnable(p, lr_mult=2.0 if p.dim() == 1 else 1.0, decay_mult=float(p.dim() > 1))
        for p in parameters(device)
    ]
    rule = rule_class(config)(params, config)
    rule.leaves_updates = False  # which pycaffe alone shows
    moka.keep_freed_memory()  # as `caffe train` does
    return waiting(device, lambda i: apply_update(rule, config, i, RATE))


def torch_update(
    optimizer: Callable[..., torch.optim.Optimizer], device: str
) -> Callable[[int], None]:
    made = parameters(device)
    weights = [p for p in made if p.dim() > 1]
    biases = [p for p in made if p.dim() == 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "lr": RATE, "weight_decay": DECAY},
        {"params": biases, "lr": 2 * RATE, "weight_decay": 0.0},
    ]
    made_optimizer = optimizer(groups)
    return waiting(device, lambda _: made_optimizer.step())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    device = args.device
    sgd = partial(torch.optim.SGD, lr=RATE, momentum=0.9)
    adam = partial(torch.optim.Adam, lr=RATE)
    contenders: dict[str, Contender] = {
        "torch.optim.SGD(fused=True)": partial(torch_update, partial(sgd, fused=True), device),
        "torch.optim.SGD()": partial(torch_update, sgd, device),
        "torch.optim.Adam(fused=True)": partial(torch_update, partial(adam, fused=True), device),
        "torch.optim.Adam()": partial(torch_update, adam, device),
    }
    for solver_type, fields in {
        "SGD": {"momentum": 0.9},
        "Nesterov": {"momentum": 0.9},
        "AdaGrad": {},
        "RMSProp": {"rms_decay": 0.98},
        "AdaDelta": {"momentum": 0.95, "delta": 1e-6},
        "Adam": {"momentum": 0.9},
    }.items():
        contenders[f"moka {solver_type}"] = partial(moka_update, solver_type, fields, device)
    result = compare(contenders, rounds=args.rounds, iterations=3, warm_up=3)
    base = result["torch.optim.SGD(fused=True)"].ms
    count = sum(p.numel() for p in parameters("cpu")) / 1e6
    print(f"Update of {count:.1f} M parameters, {device}, {torch.get_num_threads()} threads")
    print(f"{'':32}{'ms':>8}{'ratio to fused SGD':>20}{'peak MB':>9}")
    for name, timing in result.items():
        print(f"{name:32}{timing.ms:8.1f}{timing.ms / base:20.2f}{timing.peak_mb:9.0f}")


if __name__ == "__main__":
    main()
