"""Exporting to ONNX: seconds, memory, and how fast the models run.

    python benchmarks/export.py [MODEL ...] [--rounds N]

For each model of models/ with random weights: seconds to build, write and check its ONNX file, the
memory that this takes beside that of the weights (in a process of its own), and the time of a pass
of one image in ONNX Runtime, beside Moka's layerwise engine and, for nets that are written in
PyTorch below, beside the file that torch.onnx.export makes of them. Contenders take turns in one
process, with one thread; medians of processor time are compared, so that other programs on the
machine hardly count.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import warnings
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import onnxruntime
import torch
from torch import Tensor, nn

from moka.engine.layerwise import Layerwise
from moka.export.onnx.export import Exported, export_onnx
from moka.net import Net, build_net

MODELS = Path(__file__).parents[1] / "models"


class Add(nn.Module):
    """The sum of two branches."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.one, self.other = one, other

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.one(x) + self.other(x))


class Join(nn.Module):
    """The channels of several branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def conv(a: int, b: int, kernel: int, stride: int = 1, pad: int = 0, group: int = 1) -> list[Any]:
    return [nn.Conv2d(a, b, kernel, stride, pad, groups=group), nn.ReLU()]


def conv_norm(a: int, b: int, kernel: int, stride: int = 1, group: int = 1) -> list[Any]:
    layer = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=group, bias=False)
    return [layer, nn.BatchNorm2d(b)]


def max_pool(kernel: int = 3, stride: int = 2) -> nn.Module:
    return nn.MaxPool2d(kernel, stride, ceil_mode=True)


def classes(*widths: int) -> list[nn.Module]:
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU(), nn.Dropout()]
    return [*layers[:-2], nn.Softmax(1)]


def caffenet() -> nn.Module:
    def norm() -> nn.Module:
        return nn.LocalResponseNorm(5)

    return nn.Sequential(
        *conv(3, 96, 11, 4), max_pool(), norm(), *conv(96, 256, 5, 1, 2, 2), max_pool(), norm(),
        *conv(256, 384, 3, 1, 1), *conv(384, 384, 3, 1, 1, 2), *conv(384, 256, 3, 1, 1, 2),
        max_pool(), *classes(9216, 4096, 4096, 1000),
    )  # fmt: skip


def vgg16() -> nn.Module:
    layers: list[nn.Module] = []
    a = 3
    for b, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += conv(a, b, 3, 1, 1)
            a = b
        layers.append(max_pool(2))
    return nn.Sequential(*layers, *classes(25088, 4096, 4096, 1000))


def squeezenet() -> nn.Module:
    def fire(a: int, squeezed: int, b: int) -> nn.Module:
        wide = Join(
            nn.Sequential(*conv(squeezed, b, 1)), nn.Sequential(*conv(squeezed, b, 3, 1, 1))
        )
        return nn.Sequential(*conv(a, squeezed, 1), wide)

    return nn.Sequential(
        *conv(3, 64, 3, 2), max_pool(), fire(64, 16, 64), fire(128, 16, 64), max_pool(),
        fire(128, 32, 128), fire(256, 32, 128), max_pool(), fire(256, 48, 192), fire(384, 48, 192),
        fire(384, 64, 256), fire(512, 64, 256), *conv(512, 1000, 1), nn.AdaptiveAvgPool2d(1),
        nn.Softmax(1),
    )  # fmt: skip


def resnet18() -> nn.Module:
    layers = [*conv_norm(3, 64, 7, 2), nn.ReLU(), max_pool()]
    a = 64
    for b in (64, 128, 256, 512):
        for stride in (1 if b == 64 else 2, 1):
            both = nn.Sequential(*conv_norm(a, b, 3, stride), nn.ReLU(), *conv_norm(b, b, 3))
            skip = nn.Identity() if a == b else nn.Sequential(*conv_norm(a, b, 1, stride))
            layers.append(Add(both, skip))
            a = b
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *classes(512, 1000))


def mobilenet_v1() -> nn.Module:
    layers = [*conv_norm(3, 32, 3, 2), nn.ReLU()]
    a = 32
    for b, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
                      (1024, 2), (1024, 1)):  # fmt: skip
        layers += [*conv_norm(a, a, 3, stride, a), nn.ReLU(), *conv_norm(a, b, 1), nn.ReLU()]
        a = b
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), *classes(1024, 1000))


IN_PYTORCH: Mapping[str, Callable[[], nn.Module]] = {
    "bvlc_reference_caffenet": caffenet,
    "mobilenet_v1": mobilenet_v1,
    "resnet18": resnet18,
    "squeezenet_v1.1": squeezenet,
    "vgg16": vgg16,
}


def random_net(name: str) -> Net:
    net = build_net(MODELS / name / "deploy.prototxt")
    for layer in net.layers:
        for weight in layer.weights:
            with torch.no_grad():
                weight.normal_(0, (weight.numel() // max(1, len(weight))) ** -0.5)
                if layer.entry.state_blobs:
                    weight.abs_().add_(0.5)
    return net


def peak_mb() -> float:
    """The most memory that this process has had, in MB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


def exported(name: str, file: str) -> tuple[Exported, float, float]:
    """What exporting a model says, its weights and what the export added to the peak, in MB."""
    net = random_net(name)
    weights = sum(w.nbytes for layer in net.layers for w in layer.weights) / 1e6
    export_onnx(build_net(MODELS / "squeezenet_v1.1" / "deploy.prototxt"), file)  # imports all
    before = peak_mb()
    done = export_onnx(net, file)
    return done, weights, peak_mb() - before


def torch_file(name: str, file: Path, x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = IN_PYTORCH[name]().eval()
        torch.onnx.export(module, (x,), str(file), dynamo=False)


def runner(file: Path, x: Tensor) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x.numpy()})


def layerwise(name: str, x: Tensor) -> Callable[[], object]:
    net = random_net(name)
    blob = net.blobs[net.graph.inputs[0]]
    blob.reshape(*x.shape)
    blob.data[...] = x.numpy()
    return Layerwise(net).forward


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for k in range(rounds + 2):
        for name, run in contenders.items():
            start = process_time()
            run()
            if k > 1:
                times[name].append((process_time() - start) * 1e3)
    return {name: median(found) for name, found in times.items()}


def row(name: str, rounds: int, folder: Path) -> str:
    file = folder / "moka.onnx"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        done, weights, added = pool.apply(exported, (name, str(file)))
    shape = build_net(MODELS / name / "deploy.prototxt").input_shapes
    x = torch.randn(1, *next(iter(shape.values()))[1:])
    contenders = {"moka": runner(file, x), "layerwise": layerwise(name, x)}
    if name in IN_PYTORCH:
        torch_file(name, folder / "torch.onnx", x)
        contenders["torch"] = runner(folder / "torch.onnx", x)
    ms = in_turns(contenders, rounds)
    assert done.random is not None
    against = f"{ms['torch']:.1f} | {ms['torch'] / ms['moka']:.2f}" if "torch" in ms else "- | -"
    return (
        f"| {name} | {weights:.0f} | {done.build_s:.2f} | {done.write_s:.2f} | {done.check_s:.2f}"
        f" | {added / weights:.1f} | {done.random.relative:.1e} | {ms['moka']:.1f} | {against}"
        f" | {ms['layerwise']:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "| model | weights MB | build s | write s | check s | added memory / weights | difference"
        " | ms | torch's file ms | ratio | layerwise ms |\n" + "|---" * 11 + "|"
    )
    names = options.models or sorted(f.parent.name for f in MODELS.glob("*/deploy.prototxt"))
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(row(name, options.rounds, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
