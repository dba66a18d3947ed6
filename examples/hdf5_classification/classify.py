#!/usr/bin/env python3
"""Logistic regression, and a net with a hidden layer, on rows of numbers in HDF5 files.

    python examples/hdf5_classification/classify.py

Makes 10,000 rows of four features in two classes, trains scikit-learn's logistic regression and
the two nets on three quarters of them, and prints what share of the others each gets right. By
hand, the nets are trained with

    caffe train --solver=examples/hdf5_classification/logreg_solver.prototxt
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import h5py
import numpy as np
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import moka
from moka.report.records import Record, TestCompleted
from moka.solver.config import SolverLike

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATA = HERE / "data"
NETS = {"logreg": "logistic regression, Moka", "two_layers": "hidden layer of 40, Moka"}

Rows = dict[str, np.ndarray]  # data (N, 4) and label (N,)


def make_rows(count: int) -> dict[str, Rows]:
    """Rows for "train" and, a quarter, for "test": two of the features tell the classes apart, two
    are noise; each class is two clouds, so that no straight line parts them quite."""
    features, labels = make_classification(
        n_samples=count,
        n_features=4,
        n_redundant=0,
        n_informative=2,
        n_clusters_per_class=2,
        hypercube=False,
        random_state=0,
    )
    x, x_test, y, y_test = train_test_split(features, labels, random_state=0)
    return {"train": {"data": x, "label": y}, "test": {"data": x_test, "label": y_test}}


def write(name: str, rows: Rows) -> None:
    """An HDF5 file with a dataset for each top of its layer, and the list that names it."""
    file = DATA / f"{name}.h5"
    with h5py.File(file, "w") as opened:
        for top, values in rows.items():
            opened.create_dataset(top, data=values.astype(np.float32), compression="gzip")
    (DATA / f"{name}.txt").write_text(f"{file.relative_to(ROOT)}\n")


def trained_accuracy(solver: SolverLike) -> float:
    """Train; the accuracy of the last test."""
    found = [0.0]

    def listen(record: Record) -> None:
        if isinstance(record, TestCompleted):
            found.append(next(o.value for o in record.outputs if o.name == "accuracy"))

    moka.train(solver, listeners=[listen])
    return found[-1]


def main() -> None:
    os.chdir(ROOT)  # the paths in the prototxt files start there
    DATA.mkdir(exist_ok=True)
    rows = make_rows(10_000)
    for name, part in rows.items():
        write(name, part)
    train, test = rows["train"], rows["test"]
    peer = LogisticRegression().fit(train["data"], train["label"])
    accuracy = {"logistic regression, scikit-learn": peer.score(test["data"], test["label"])}
    try:
        for net, title in NETS.items():
            accuracy[title] = trained_accuracy(HERE / f"{net}_solver.prototxt")
    except moka.MokaError as error:
        sys.exit(f"classify.py: {error}")
    print(f"Accuracy on {len(test['label'])} rows:")
    for title, value in accuracy.items():
        print(f"  {title:<34} {value:.1%}")


if __name__ == "__main__":
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    main()
