"""A training step of the reference nets: `caffe train`'s loop and pycaffe's beside PyTorch's.

    python benchmarks/training.py [NET...] [--rounds N] [--threads N] [--compile] [--out FOLDER]

One iteration: forward, backward, update by SGD with momentum and weight decay, the loss as a
number. Every contender is a process of its own; they take turns. The data is in memory, the same
for each iteration. "PyTorch" is the net as people write it (row-major, ReLU in-place, torch.optim's
SGD as it is), "channels-last" has that layout and the fused update, --compile adds torch.compile of
that. Writes training.json and training.md, with the date and the machine, into the folder.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pytorch_nets import IN_PYTORCH, GoogLeNetWithLosses, cifar_quick, for_training, lenet
from side_by_side import Contender, Timing, compare
from torch import Tensor, nn

import caffe
import moka
from inference import machine, repeated
from moka.engine.channels_last import channels_last
from moka.net.build import read_net
from moka.report.caffe_log import log_record
from moka.schema import caffe_pb2, write_text
from moka.solver.solver import Solver

ROOT = Path(__file__).resolve().parent.parent
RATE, MOMENTUM, DECAY = 0.001, 0.9, 0.0005
TURN_S = 1.0  # of each contender in each round, about
Run = Callable[[int], None]


class Case(NamedTuple):
    """A net as Caffe's file and as PyTorch's module; images (channels, height, width)."""

    file: str
    module: Callable[[], nn.Module]
    batch: int
    image: tuple[int, int, int]
    classes: int


CASES = {
    "LeNet": Case("examples/mnist/lenet_train_test.prototxt", lenet, 64, (1, 28, 28), 10),
    "CIFAR-quick": Case(
        "examples/cifar10/cifar10_quick_train_test.prototxt", cifar_quick, 100, (3, 32, 32), 10
    ),
    **{
        name: Case(f"models/{model}/train_val.prototxt", module, 10, (3, size, size), 1000)
        for name, model, module, size in (
            ("CaffeNet", "bvlc_reference_caffenet", IN_PYTORCH["bvlc_reference_caffenet"], 227),
            ("GoogLeNet", "bvlc_googlenet", GoogLeNetWithLosses, 224),
            ("SqueezeNet", "squeezenet_v1.1", IN_PYTORCH["squeezenet_v1.1"], 227),
            ("MobileNet v1", "mobilenet_v1", IN_PYTORCH["mobilenet_v1"], 224),
            ("ResNet-50", "resnet50", IN_PYTORCH["resnet50"], 224),
        )
    },
}


def data(case: Case) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(case.batch, *case.image), torch.randint(case.classes, (case.batch,))


def net_of(case: Case) -> caffe_pb2.NetParameter:
    """The file's net for training, its data given by the caller."""
    net, _ = read_net(ROOT / case.file)
    layers = list(net.layer)
    del net.layer[:]
    given = net.layer.add(name="data", type="Input", top=["data", "label"])
    for shape in ((case.batch, *case.image), (case.batch,)):
        given.input_param.shape.add(dim=shape)
    net.layer.extend(layer for layer in layers if layer.bottom)
    return net


def solver_of(case: Case) -> caffe_pb2.SolverParameter:
    return caffe_pb2.SolverParameter(
        train_net_param=net_of(case),
        base_lr=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        lr_policy="fixed",
        display=100,
        max_iter=10**6,
    )


def caffe_train(case: Case, threads: int) -> Run:
    """The solver that `caffe train` runs, with its log going nowhere."""
    _be_quiet(threads)
    moka.keep_freed_memory()  # as `caffe train` does
    solver = Solver(solver_of(case), listeners=[log_record])
    for name, tensor in zip(("data", "label"), data(case), strict=True):
        # As the data layers' batches leave their feed.
        solver.net.blobs[name].data_memory.put(channels_last(tensor.float()))
    return solver.step


def pycaffe(case: Case, threads: int) -> Run:
    _be_quiet(threads)
    with tempfile.NamedTemporaryFile(suffix=".prototxt") as file:
        write_text(file.name, solver_of(case))
        solver = caffe.get_solver(file.name)
    for name, tensor in zip(("data", "label"), data(case), strict=True):
        solver.net.blobs[name].data[...] = tensor.numpy()
    return solver.step


def _be_quiet(threads: int) -> None:
    torch.set_num_threads(threads)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def pytorch(
    case: Case, threads: int, *, channels_last: bool = False, compiled: bool = False
) -> Run:
    torch.set_num_threads(threads)
    net = for_training(case.module())
    x, y = data(case)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = x.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        net.parameters(), RATE, momentum=MOMENTUM, weight_decay=DECAY, fused=channels_last or None
    )
    run = torch.compile(net) if compiled else net

    def once() -> None:
        optimizer.zero_grad()
        found = run(x)
        first, *others = found if isinstance(found, tuple) else (found,)
        loss = F.cross_entropy(first, y)
        for other in others:
            loss = loss + 0.3 * F.cross_entropy(other, y)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()

    return repeated(once)


def contenders(case: Case, threads: int, *, compiled: bool = False) -> Mapping[str, Contender]:
    found: dict[str, Contender] = {
        "caffe train": partial(caffe_train, case, threads),
        "pycaffe": partial(pycaffe, case, threads),
        "PyTorch": partial(pytorch, case, threads),
        "channels-last": partial(pytorch, case, threads, channels_last=True),
    }
    if compiled:
        found["torch.compile"] = partial(pytorch, case, threads, channels_last=True, compiled=True)
    return found


def measure(
    case: Case, threads: int, rounds: int, *, compiled: bool = False, processor_time: bool = False
) -> dict[str, Timing]:
    """Milliseconds an iteration and peak memory of each contender."""
    found = contenders(case, threads, compiled=compiled)
    first = {"PyTorch": found["PyTorch"]}
    quick = compare(first, rounds=1, iterations=2, warm_up=2)["PyTorch"].ms
    iterations = min(max(1, int(TURN_S * 1e3 / quick)), 100)
    return compare(
        found,
        rounds=rounds,
        iterations=iterations,
        warm_up=3,
        processor_time=processor_time,
    )


def as_row(name: str, batch: int, timings: Mapping[str, Timing]) -> str:
    base = timings["caffe train"].ms
    cells = [f"{t.ms:.1f} ({t.ms / base:.2f})" for t in timings.values()]
    peaks = ", ".join(f"{t.peak_mb:.0f}" for t in timings.values())
    return f"| {name}, {batch} | {' | '.join(cells)} | {peaks} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", help=", ".join(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="torch.compile as well")
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="the processes' own time, for a busy machine (with OMP_WAIT_POLICY=passive)",
    )
    parser.add_argument("--out", type=Path, help="write training.json and training.md there")
    options = parser.parse_args()
    results: dict[str, dict[str, Timing]] = {}
    rows: list[str] = []
    for name in options.nets or CASES:
        case = CASES[name]
        timings = measure(
            case,
            options.threads,
            options.rounds,
            compiled=options.compile,
            processor_time=options.processor_time,
        )
        results[f"{name}, {case.batch}"] = timings
        rows.append(as_row(name, case.batch, timings))
        print(rows[-1], flush=True)
    columns = list(next(iter(results.values())))
    head = f"{datetime.date.today().isoformat()}, {machine(options.threads)}"
    table = "\n".join(
        [
            f"| net, batch | {' | '.join(columns)} | peak MB, in this order |",
            "|---" * (len(columns) + 2) + "|",
            *rows,
        ]
    )
    print(table)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        text = (
            f"# Training\n\n{head}. Milliseconds an iteration, medians of {options.rounds} turns;"
            " in brackets the ratio to `caffe train`. `python benchmarks/training.py`\n\n"
        )
        (options.out / "training.md").write_text(text + table + "\n")
        as_json = {
            "machine": head,
            "ms": {k: {c: t.ms for c, t in v.items()} for k, v in results.items()},
            "peak_mb": {k: {c: t.peak_mb for c, t in v.items()} for k, v in results.items()},
        }
        (options.out / "training.json").write_text(json.dumps(as_json, indent=1) + "\n")


if __name__ == "__main__":
    main()
