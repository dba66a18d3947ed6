"""Exporting the layers of Caffe's forks to ONNX: which do, seconds, differences, and speed.

    python benchmarks/export_forks.py [--rounds N] [--json FILE]

For each fork the smallest net of each of its layer types, as tests/layers/test_registry.py has
them, is exported and checked; a pass in ONNX Runtime takes turns with one of Moka's layerwise
engine, with one thread, and medians of processor time are compared. The nets are tiny: their times
tell what a layer costs beside its arithmetic. What does not export is named; losses and scores,
which exported nets leave out, are not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import process_time
from typing import NamedTuple

import numpy as np
import onnxruntime
import torch

from export import markdown, write_rows
from moka.engine.layerwise import Layerwise
from moka.errors import MokaError
from moka.export.onnx.export import export_onnx
from moka.export.onnx.layers import is_left_out
from moka.layers import REGISTRY, all_entries
from moka.net import Net, build_net
from moka.schema import caffe_pb2, parse_text

sys.path.append(str(Path(__file__).parents[1]))  # where the tests lie
from tests.layers.one_layer import MINIMAL, text_of

HEADINGS = ("fork", "exported", "s", "difference", "ONNX Runtime ms", "layerwise ms", "refused")


class Exported(NamedTuple):
    """One layer type. Seconds; milliseconds a pass."""

    seconds: float
    difference: float
    onnx_ms: float
    layerwise_ms: float


class Row(NamedTuple):
    """The layer types of a fork: sums of times, and the largest difference."""

    fork: str
    exported: list[str]
    refused: list[str]
    seconds: float
    difference: float
    onnx_ms: float
    layerwise_ms: float

    def cells(self) -> list[str]:
        count = f"{len(self.exported)} of {len(self.exported) + len(self.refused)}"
        times = ["-"] * 4
        if self.exported:
            times = [f"{self.seconds:.2f}", f"{self.difference:.1e}"]
            times += [f"{self.onnx_ms:.3f}", f"{self.layerwise_ms:.3f}"]
        return [self.fork, count, *times, ", ".join(self.refused)]


def values_for(net: Net, kind: str) -> dict[str, np.ndarray]:
    """Numbers that the layer takes."""
    case, draw = MINIMAL[kind], np.random.default_rng(5)
    return {
        name: draw.uniform(case.least, case.most, shape).astype(np.float32)
        for name, shape in net.input_shapes.items()
    }


def measure(kind: str, rounds: int) -> Exported:
    """Export the smallest net with this layer. Raises MokaError if that is refused."""
    net = build_net(parse_text(text_of(kind), caffe_pb2.NetParameter), caffe_pb2.TEST)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net.onnx"
        done = export_onnx(net, file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    values = values_for(net, kind)
    feed = {value.name: values[value.name] for value in session.get_inputs()}
    for name, array in values.items():
        net.blobs[name].data[...] = array
    engine = Layerwise(net)
    runs: list[Callable[[], object]] = [lambda: session.run(None, feed), engine.forward]
    times: list[list[float]] = [[], []]
    for _ in range(rounds + 2):
        for found, run in zip(times, runs, strict=True):
            start = process_time()
            run()
            found.append((process_time() - start) * 1e3)
    onnx_ms, layerwise_ms = (median(found[2:]) for found in times)
    assert done.random is not None
    seconds = done.build_s + done.write_s + done.check_s
    return Exported(seconds, done.random.relative, onnx_ms, layerwise_ms)


def row_of(fork: str, kinds: list[str], rounds: int) -> Row:
    found: dict[str, Exported] = {}
    refused = []
    for kind in kinds:
        try:
            found[kind] = measure(kind, rounds)
        except MokaError:
            refused.append(kind)
    values = found.values()
    return Row(
        fork,
        list(found),
        refused,
        sum(v.seconds for v in values),
        max((v.difference for v in values), default=0.0),
        sum(v.onnx_ms for v in values),
        sum(v.layerwise_ms for v in values),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=51)
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds: defaultdict[str, list[str]] = defaultdict(list)
    for entry in all_entries():
        if entry.fork and entry.source is None and not is_left_out(REGISTRY[entry.type]):
            kinds[entry.fork].append(entry.type)
    print(markdown(HEADINGS) + "\n" + "|---" * len(HEADINGS) + "|")
    rows = []
    for fork in sorted(kinds):
        rows.append(row_of(fork, kinds[fork], options.rounds))
        print(markdown(rows[-1].cells()), flush=True)
    if options.json:
        write_rows(options.json, rows)


if __name__ == "__main__":
    main()
