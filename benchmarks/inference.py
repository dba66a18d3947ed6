"""Inference: `caffe.Net.forward` and `moka.load` beside ONNX Runtime, OpenVINO and PyTorch.

    python benchmarks/inference.py [NET ...] [--batches 1,10] [--rounds N] [--threads N] [--out DIR]

Each contender runs in a process of its own, in turns; medians are compared. Weights are random.
ONNX Runtime and OpenVINO run the file that Moka exports, PyTorch the module that Moka exports, as
it is and channels-last. `caffe.Net` copies its input in each pass. Writes inference.json and
inference.md, with the date and the machine, into benchmarks/results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import runpy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from side_by_side import Contender, Timing, compare

import caffe
import moka
from moka.export.onnx.export import export_onnx
from moka.export.torch.export import export_torch
from moka.net import Net, build_net

MODELS = Path(__file__).parents[1] / "models"
LENET = Path(__file__).parents[1] / "examples" / "mnist" / "lenet.prototxt"
NETS = {
    "LeNet": LENET,
    "CaffeNet": MODELS / "bvlc_reference_caffenet" / "deploy.prototxt",
    "GoogLeNet": MODELS / "bvlc_googlenet" / "deploy.prototxt",
    "SqueezeNet": MODELS / "squeezenet_v1.1" / "deploy.prototxt",
    "MobileNet v1": MODELS / "mobilenet_v1" / "deploy.prototxt",
    "MobileNet v2": MODELS / "mobilenet_v2" / "deploy.prototxt",
    "ResNet-50": MODELS / "resnet50" / "deploy.prototxt",
}
TURN_S = 0.3  # of each contender in each round, about
Run = Callable[[int], None]


def save_random_model(net: Net, file: Path) -> None:
    for layer in net.layers:
        for weight in layer.weights:
            with torch.no_grad():
                weight.normal_(0, (weight.numel() // max(1, len(weight))) ** -0.5)
                if layer.entry.state_blobs:
                    weight.abs_().add_(0.5)
    moka.save_weights(net, file)


def images(shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def repeated(once: Callable[[], object]) -> Run:
    def run(iterations: int) -> None:
        for _ in range(iterations):
            once()

    return run


def pycaffe(net_file: str, weights: str, shape: Sequence[int], threads: int) -> Run:
    torch.set_num_threads(threads)
    net = caffe.Net(net_file, caffe.TEST, weights=weights)
    name = net.inputs[0]
    net.blobs[name].reshape(*shape)
    x = images(shape)

    def once() -> object:
        net.blobs[name].data[...] = x
        return net.forward()

    return repeated(once)


def module(net_file: str, weights: str, shape: Sequence[int], threads: int) -> Run:
    torch.set_num_threads(threads)
    net = moka.load(net_file, weights)
    x = torch.from_numpy(images(shape))

    def once() -> object:
        with torch.no_grad():
            return net(x)

    return repeated(once)


def plain_torch(file: str, shape: Sequence[int], threads: int, *, channels_last: bool) -> Run:
    torch.set_num_threads(threads)
    net = runpy.run_path(file)["load"]()
    x = torch.from_numpy(images(shape))
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)

    def once() -> object:
        with torch.inference_mode():
            return net(x)

    return repeated(once)


def onnx_runtime(file: str, shape: Sequence[int], threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: images(shape)}
    return repeated(lambda: session.run(None, feed))


def openvino(file: str, shape: Sequence[int], threads: int) -> Run:
    from importlib import import_module

    core = import_module("openvino").Core()
    model = core.read_model(file)
    model.reshape(list(shape))
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",  # as all others
    }
    compiled = core.compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    x = images(shape)
    return repeated(lambda: request.infer([x], share_inputs=True))


def contenders(net_file: Path, batch: int, threads: int, folder: Path) -> Mapping[str, Contender]:
    net = build_net(net_file)
    shape = (batch, *net.input_shapes[net.graph.inputs[0]][1:])
    weights, onnx, source = (str(folder / f"net.{end}") for end in ("caffemodel", "onnx", "py"))
    if not Path(weights).exists():
        save_random_model(net, Path(weights))
        export_onnx(net, onnx, check=False)
        export_torch(net, source)
    found: dict[str, Contender] = {
        "caffe.Net": partial(pycaffe, str(net_file), weights, shape, threads),
        "moka.load": partial(module, str(net_file), weights, shape, threads),
        "ONNX Runtime": partial(onnx_runtime, onnx, shape, threads),
        "PyTorch": partial(plain_torch, source, shape, threads, channels_last=False),
        "channels-last": partial(plain_torch, source, shape, threads, channels_last=True),
    }
    if find_spec("openvino"):
        found["OpenVINO"] = partial(openvino, onnx, shape, threads)
    return found


def measure(name: str, batch: int, threads: int, rounds: int, folder: Path) -> dict[str, Timing]:
    found = contenders(NETS[name], batch, threads, folder)
    quick = compare({"ONNX Runtime": found["ONNX Runtime"]}, rounds=1, iterations=3, warm_up=3)
    iterations = max(1, int(TURN_S * 1e3 / quick["ONNX Runtime"].ms))
    return compare(found, rounds=rounds, iterations=min(iterations, 500), warm_up=5)


def as_row(name: str, batch: int, timings: Mapping[str, Timing]) -> str:
    best = min(t.ms for c, t in timings.items() if c in ("ONNX Runtime", "OpenVINO"))
    cells = [f"{t.ms:.2f} ({t.ms / best:.2f})" for t in timings.values()]
    peaks = ", ".join(f"{t.peak_mb:.0f}" for t in timings.values())
    return f"| {name}, {batch} | {' | '.join(cells)} | {peaks} |"


def machine(threads: int) -> str:
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores, {threads} threads, PyTorch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", help=", ".join(NETS))
    parser.add_argument("--batches", default="1,10")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    results: dict[str, dict[str, Timing]] = {}
    rows: list[str] = []
    columns: list[str] = []
    for name in options.nets or NETS:
        with tempfile.TemporaryDirectory() as folder:
            for batch in map(int, options.batches.split(",")):
                timings = measure(name, batch, options.threads, options.rounds, Path(folder))
                results[f"{name}, {batch}"] = timings
                columns = list(timings)
                rows.append(as_row(name, batch, timings))
                print(rows[-1], flush=True)
    head = f"{datetime.date.today().isoformat()}, {machine(options.threads)}"
    table = [
        f"| net, batch | {' | '.join(columns)} | peak MB, in this order |",
        "|---" * (len(columns) + 2) + "|",
        *rows,
    ]
    text = (
        f"# Inference\n\n{head}. Milliseconds a pass, medians of {options.rounds} turns; in"
        " brackets the ratio to the better of ONNX Runtime and OpenVINO."
        " `python benchmarks/inference.py`\n\n"
    )
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "inference.md").write_text(text + "\n".join(table) + "\n")
    as_json = {
        "machine": head,
        "ms": {k: {c: t.ms for c, t in v.items()} for k, v in results.items()},
        "peak_mb": {k: {c: t.peak_mb for c, t in v.items()} for k, v in results.items()},
    }
    (options.out / "inference.json").write_text(json.dumps(as_json, indent=1) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
