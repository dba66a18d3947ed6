"""Training on one GPU, data already there: images a second, beside PyTorch's and its compiler's.

    python benchmarks/gpu_training.py [--nets NAME,...] [--batch N] [--rounds N] [--device cuda]

Contenders run one after the other, each in a process of its own; two would share the GPU.
"torch.compile, bfloat16" is the measure: channels-last, autocast, fused SGD, as PyTorch's guides
say. It runs first and last; how far the two are apart is the noise. Writes gpu_training.json and
gpu_training.md, with the date and the machine, into benchmarks/results. It should take less than
ten minutes on an H200, half of them for torch.compile.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from pytorch_nets import IN_PYTORCH
from side_by_side import Contender, compare
from torch import nn

from moka.schema import caffe_pb2, read_text
from moka.solver.solver import Solver

ROOT = Path(__file__).resolve().parent.parent
MEASURE, AGAIN = "torch.compile, bfloat16", "torch.compile, bfloat16, again"


class Task(NamedTuple):
    """A net to train.

    Attributes:
        file: its prototxt; its Data layers make room for what lies on the GPU.
        image: (C, H, W).
        classes: how many.
        batch: images an iteration.
        iterations: a turn.
    """

    file: str
    image: tuple[int, int, int]
    classes: int
    batch: int
    iterations: int


TASKS = {
    "LeNet": Task("examples/mnist/lenet_train_test.prototxt", (1, 28, 28), 10, 64, 200),
    "CaffeNet": Task(
        "models/bvlc_reference_caffenet/train_val.prototxt", (3, 227, 227), 1000, 256, 20
    ),
    "ResNet-50": Task("models/resnet50/train_val.prototxt", (3, 224, 224), 1000, 256, 6),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(TASKS))
    parser.add_argument("--batch", type=int, default=0, help="instead of the usual one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    rates: dict[str, dict[str, float]] = {}
    for name in options.nets.split(","):
        task = TASKS[name]
        if options.batch:
            task = task._replace(batch=options.batch)
        rates[f"{name}, {task.batch}"] = found = {}
        for who, contender in contenders(name, task, options.device).items():
            failed: dict[str, str] = {}
            timing = compare(
                {who: contender},
                rounds=options.rounds,
                iterations=task.iterations,
                warm_up=12,
                failed=failed,
            ).get(who)
            if timing is None:  # as torch.compile does where no compiler is
                print(f"{name} {who}: {failed[who]}", flush=True)
                continue
            found[who] = task.batch / timing.ms * 1e3
            print(f"{name} {who}: {found[who]:.0f} images/s", flush=True)
    write(options.out, machine(options.device), rates)


def contenders(name: str, task: Task, device: str) -> dict[str, Contender]:
    """All that train a net, the measure first and last."""

    def moka(**fields: Any) -> Contender:
        return partial(moka_training, task, device, fields)

    def torch_(half: torch.dtype | None, *, compiled: bool) -> Contender:
        return partial(torch_training, name, task, device, half, compiled)

    return {
        MEASURE: torch_(torch.bfloat16, compiled=True),
        "moka, float32": moka(precision="FLOAT"),
        "moka, TF32": moka(precision="TF32"),
        "moka, bfloat16": moka(precision="BF16"),
        "moka, float16": moka(precision="FP16"),
        "moka, bfloat16, no CUDA graph": moka(precision="BF16", records=False),
        "torch, TF32": torch_(None, compiled=False),
        "torch, bfloat16": torch_(torch.bfloat16, compiled=False),
        "torch.compile, TF32": torch_(None, compiled=True),
        AGAIN: torch_(torch.bfloat16, compiled=True),
    }


# --- Moka ---------------------------------------------------------------------------------


def moka_training(task: Task, device: str, fields: Mapping[str, Any]) -> Callable[[int], None]:
    """`caffe train`'s loop."""
    os.chdir(ROOT)
    if fields["precision"] == "FLOAT":  # PyTorch's own default lets convolutions use TF32
        torch.backends.cudnn.allow_tf32 = False
    given = dict(fields)
    records = given.pop("records", True)
    config = caffe_pb2.SolverParameter(
        net_param=with_inputs(task),
        base_lr=0.001,
        lr_policy="fixed",
        momentum=0.9,
        weight_decay=0.0005,
        snapshot_prefix=f"{tempfile.mkdtemp()}/net",
        **given,
    )
    solver = Solver(config, device=torch.device(device), records=records)
    images = torch.randn(task.batch, *task.image, device=device)
    labels = torch.randint(task.classes, (task.batch,), device=device).float()
    solver.net.blobs["data"].data_memory.put(images)
    solver.net.blobs["label"].data_memory.put(labels)

    def run(iterations: int) -> None:
        solver.step(iterations)
        wait(device)
        captured = solver.late_step.captured
        if captured is not None and captured.refusal is not None:
            print(captured.refusal, flush=True)

    return run


def with_inputs(task: Task) -> caffe_pb2.NetParameter:
    """A net for training that is given its data."""
    net = read_text(ROOT / task.file, caffe_pb2.NetParameter)
    layers = [layer for layer in net.layer if layer.type != "Data"]
    del net.layer[:]
    source = net.layer.add(name="data", type="Input", top=["data", "label"])
    source.input_param.shape.add(dim=(task.batch, *task.image))
    source.input_param.shape.add(dim=(task.batch,))
    net.layer.extend(layers)
    return net


# --- PyTorch ------------------------------------------------------------------------------


def torch_training(
    name: str, task: Task, device: str, half: torch.dtype | None, compiled: bool
) -> Callable[[int], None]:
    """The loop that PyTorch's guides recommend; it never reads the loss."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last if half else torch.contiguous_format
    net = in_pytorch(name).to(device).to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(net.parameters(), 0.001, 0.9, weight_decay=0.0005, fused=True)
    images = torch.randn(task.batch, *task.image, device=device).to(memory_format=layout)
    labels = torch.randint(task.classes, (task.batch,), device=device)
    run_net: Callable[..., Any] = torch.compile(net) if compiled else net

    def run(iterations: int) -> None:
        for _ in range(iterations):
            with torch.autocast(device, half) if half else nullcontext():
                loss = F.cross_entropy(run_net(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
        wait(device)

    return run


def in_pytorch(name: str) -> nn.Module:
    """The net without its softmax."""
    if name == "LeNet":
        return nn.Sequential(
            nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
        )  # fmt: skip
    model = "resnet50" if name == "ResNet-50" else "bvlc_reference_caffenet"
    made = IN_PYTORCH[model]()
    assert isinstance(made, nn.Sequential)
    return made[:-1]


# --- the table ----------------------------------------------------------------------------


def wait(device: str) -> None:
    """Wait for all work on the device."""
    if device != "cpu":
        torch.cuda.synchronize()


def machine(device: str) -> str:
    """The device and PyTorch's version."""
    name = torch.cuda.get_device_name() if device != "cpu" else "CPU"
    return f"{name}, torch {torch.__version__}"


def write(folder: Path, where: str, rates: Mapping[str, Mapping[str, float]]) -> None:
    """Write the results as JSON and as a table; print the table."""
    content = {"date": str(date.today()), "machine": where, "images_per_s": rates}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu_training.json").write_text(json.dumps(content, indent=1) + "\n")
    names = list(dict.fromkeys(name for found in rates.values() for name in found))
    lines = [
        f"Training, {where}, {date.today()}: images/s (ratio to {MEASURE}).",
        "",
        f"| net, batch | {' | '.join(names)} |",
        "|---|" + "---|" * len(names),
    ]
    for net, found in rates.items():
        cells = [_cell(found.get(name), found.get(MEASURE)) for name in names]
        lines.append(f"| {net} | {' | '.join(cells)} |")
    text = "\n".join(lines) + "\n"
    (folder / "gpu_training.md").write_text(text)
    print(text)


def _cell(rate: float | None, measure: float | None) -> str:
    if rate is None:
        return "failed"
    return f"{rate:.0f} ({rate / measure:.2f})" if measure else f"{rate:.0f}"


if __name__ == "__main__":
    main()
