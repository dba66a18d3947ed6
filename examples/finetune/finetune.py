#!/usr/bin/env python3
"""Fine-tuning: what many images of the digits 0 to 4 teach helps to tell 5 to 9 from few.

    examples/mnist/get_data             once
    python examples/finetune/finetune.py

Trains on 0 to 4, then on five images each of 5 to 9: from those weights, and from none. The same by
hand is

    caffe train --solver=examples/finetune/low_solver.prototxt
    caffe train --solver=examples/finetune/high_solver.prototxt \\
        --weights=examples/finetune/low_iter_1000.caffemodel
"""

from __future__ import annotations

import itertools
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from moka.api import train
from moka.data.datum import parse
from moka.data.store import make_store, open_store
from moka.report.records import Record, TestCompleted
from moka.schema import caffe_pb2, read_text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MNIST = ROOT / "examples" / "mnist"
FEW = 5  # images of each of the digits 5 to 9

Labeled = tuple[bytes, caffe_pb2.Datum]


def digits(part: str, first: int) -> Iterator[Labeled]:
    """MNIST's records of the five digits from `first` on, with labels 0 to 4."""
    for key, value in open_store(MNIST / f"mnist_{part}_lmdb").read():
        datum = parse(value)
        if first <= datum.label < first + 5:
            datum.label -= first
            yield key, datum


def few(records: Iterable[Labeled]) -> Iterator[Labeled]:
    """The first FEW of each label."""
    left = dict.fromkeys(range(5), FEW)
    for key, datum in records:
        if left[datum.label]:
            left[datum.label] -= 1
            yield key, datum


def write(name: str, records: Iterable[Labeled]) -> None:
    """A database of records, made anew."""
    path = HERE / f"{name}_lmdb"
    shutil.rmtree(path, ignore_errors=True)
    with make_store(path, "lmdb") as store:
        for key, datum in records:
            store.put(key, datum.SerializeToString())


def accuracies(solver: str, weights: Path | None = None) -> list[float]:
    """Train; the accuracy of each test on the way, the first one before any training."""
    config = read_text(HERE / solver, caffe_pb2.SolverParameter)
    if weights is not None:
        config.weights.append(str(weights))
    found: list[float] = []

    def listen(record: Record) -> None:
        if isinstance(record, TestCompleted):
            found.append(next(o.value for o in record.outputs if o.name == "accuracy"))
            print(f"  iteration {record.iteration:4}: {found[-1]:.1%}", flush=True)

    train(config, listeners=[listen])
    return found


def main() -> None:
    os.chdir(ROOT)  # the paths in the prototxt files start there
    if not (MNIST / "mnist_train_lmdb").exists():
        sys.exit("finetune.py: there is no MNIST yet: run examples/mnist/get_data first.")
    for part, first in itertools.product(("train", "test"), (0, 5)):
        records = digits(part, first)
        name = f"{'high' if first else 'low'}_{part}"
        write(name, few(records) if name == "high_train" else records)
    print("Digits 0 to 4, all images:")
    accuracies("low_solver.prototxt")
    print(f"Digits 5 to 9, {FEW} images each, from scratch:")
    fresh = accuracies("high_solver.prototxt")
    print(f"Digits 5 to 9, {FEW} images each, from the weights of 0 to 4:")
    tuned = accuracies("high_solver.prototxt", HERE / "low_iter_1000.caffemodel")
    print(f"Accuracy on 5 to 9: {fresh[-1]:.1%} without pre-training, {tuned[-1]:.1%} with it.")


if __name__ == "__main__":
    main()
