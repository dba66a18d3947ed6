"""Exporting to ONNX: seconds, memory, differences, and how fast the models run.

    python benchmarks/export.py [MODEL ...] [--rounds N] [--json FILE]

For each model of models/ with random weights: seconds to build, write and check its ONNX file, the
memory that this takes beside that of the weights (in a process of its own), and the time of a pass
of one image in ONNX Runtime, beside Moka's layerwise engine and the file that torch.onnx.export
makes of the same net written in PyTorch (pytorch_nets.py). Each contender has a process and one
thread; they take turns, and medians of processor time are compared, so that other programs on the
machine hardly count.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from pytorch_nets import IN_PYTORCH
from side_by_side import compare

from moka.engine.layerwise import Layerwise
from moka.export.onnx.export import Exported, export_onnx
from moka.net import Net, build_net, read_net
from moka.types import Shape

MODELS = Path(__file__).parents[1] / "models"


class Row(NamedTuple):
    """What is measured of a model. Seconds, megabytes, milliseconds a pass of one image."""

    model: str
    weights_mb: float
    build_s: float
    write_s: float
    check_s: float
    memory_ratio: float  # memory that the export adds to the weights'
    difference: float  # of an output's scale
    moka_ms: float
    torch_ms: float
    ratio: float  # of torch's file to Moka's
    layerwise_ms: float

    def cells(self) -> list[str]:
        found = [self.model, f"{self.weights_mb:.0f}"]
        found += [f"{s:.2f}" for s in (self.build_s, self.write_s, self.check_s)]
        found += [f"{self.memory_ratio:.1f}", f"{self.difference:.1e}"]
        found += [f"{ms:.1f}" for ms in (self.moka_ms, self.torch_ms)]
        return [*found, f"{self.ratio:.2f}", f"{self.layerwise_ms:.1f}"]


HEADINGS = (
    "model", "weights MB", "build s", "write s", "check s", "added memory / weights", "difference",
    "ms", "torch's file ms", "ratio", "layerwise ms",
)  # fmt: skip


def random_net(name: str) -> Net:
    """A model with random weights, for one image, in which numbers keep their size: the outputs of
    a softmax that is sure of itself would not show a difference."""
    message, _ = read_net(MODELS / name / "deploy.prototxt")
    for shape in message.layer[0].input_param.shape:
        shape.dim[0] = 1
    net = build_net(message)
    for layer in net.layers:
        for weight in layer.weights:
            with torch.no_grad():
                weight.normal_(0, (weight.numel() // max(1, len(weight))) ** -0.5)
                if layer.entry.state_blobs:
                    weight.abs_().add_(0.5)
                elif weight.dim() < 2:
                    weight.mul_(0.3)
    return net


def peak_mb() -> float:
    """The most memory that this process has had, in MB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmHWM:")[2].split()[0]) / 1e3


def exported(name: str, file: Path) -> tuple[Exported, float, float]:
    """What exporting a model says, its weights and what the export added to the peak, in MB."""
    net = random_net(name)
    weights = sum(w.nbytes for layer in net.layers for w in layer.weights) / 1e6
    export_onnx(random_net("squeezenet_v1.1"), file)  # imports all
    before = peak_mb()
    done = export_onnx(net, file)
    return done, weights, peak_mb() - before


def torch_file(name: str, file: Path, shape: Shape) -> None:
    """Write what torch.onnx.export makes of a net in PyTorch."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = IN_PYTORCH[name]().eval()
        torch.onnx.export(module, (torch.randn(shape),), str(file), dynamo=False)


def onnx_passes(file: Path, shape: Shape) -> Callable[[int], None]:
    """Runs a file in ONNX Runtime."""
    torch.set_num_threads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: torch.randn(shape).numpy()}

    def run(count: int) -> None:
        for _ in range(count):
            session.run(None, feed)

    return run


def layerwise_passes(name: str, shape: Shape) -> Callable[[int], None]:
    """Runs a model in Moka's layerwise engine."""
    torch.set_num_threads(1)
    net = random_net(name)
    net.blobs[net.graph.inputs[0]].data[...] = torch.randn(shape).numpy()
    engine = Layerwise(net)

    def run(count: int) -> None:
        for _ in range(count):
            engine.forward()

    return run


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def measure(name: str, rounds: int, folder: Path) -> Row:
    mine, theirs = folder / "moka.onnx", folder / "torch.onnx"
    done, weights, added = in_a_process(exported, name, mine)
    message, _ = read_net(MODELS / name / "deploy.prototxt")
    shape = (1, *message.layer[0].input_param.shape[0].dim[1:])
    in_a_process(torch_file, name, theirs, shape)
    contenders = {
        "moka": partial(onnx_passes, mine, shape),
        "torch": partial(onnx_passes, theirs, shape),
        "layerwise": partial(layerwise_passes, name, shape),
    }
    found = compare(contenders, rounds=rounds, iterations=1, warm_up=2, processor_time=True)
    ms = {contender: timing.ms for contender, timing in found.items()}
    assert done.random is not None
    return Row(
        name,
        weights,
        done.build_s,
        done.write_s,
        done.check_s,
        added / weights,
        done.random.relative,
        ms["moka"],
        ms["torch"],
        ms["torch"] / ms["moka"],
        ms["layerwise"],
    )


def markdown(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_rows(file: str, rows: Iterable[Any]) -> None:
    """Rows as JSON, with the versions that they were measured with."""
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__}
    content = {"versions": versions, "rows": [row._asdict() for row in rows]}
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    print(markdown(HEADINGS) + "\n" + "|---" * len(HEADINGS) + "|")
    names = options.models or sorted(f.parent.name for f in MODELS.glob("*/deploy.prototxt"))
    rows = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(name, options.rounds, Path(folder)))
        print(markdown(rows[-1].cells()), flush=True)
    if options.json:
        write_rows(options.json, rows)


if __name__ == "__main__":
    main()
