#!/usr/bin/env python3
"""What LeNet has made of MNIST's digits before its last layer, as a map: features.png.

    examples/mnist/get_data                                         once
    caffe train --solver=examples/mnist/lenet_solver.prototxt       once
    python examples/feature_extraction/features.py

Extracts the 500 numbers of the blob ip1 for 2,000 test images into a database, reads them again and
lays them out in a plane by t-SNE, colored by digit. The extraction by hand is

    extract_features examples/mnist/lenet_iter_10000.caffemodel \\
        examples/mnist/lenet_train_test.prototxt ip1,label \\
        examples/feature_extraction/ip1_lmdb,examples/feature_extraction/label_lmdb 20 lmdb
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import moka
from moka import viz
from moka.data import datum
from moka.data.store import open_store
from moka.tools.extract_features import extract_features
from moka.types import PathLike

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MNIST = ROOT / "examples" / "mnist"
MODEL = MNIST / "lenet_iter_10000.caffemodel"
BATCHES = 20  # of 100 images


def extract(blobs: list[str], batches: int) -> list[Path]:
    """Databases of blobs of LeNet, made anew, with a record for each of the first test images."""
    databases = [HERE / f"{blob}_lmdb" for blob in blobs]
    for path in databases:
        shutil.rmtree(path, ignore_errors=True)
    net = moka.load(MNIST / "lenet_train_test.prototxt", MODEL)
    try:
        extract_features(net, blobs, databases, batches)
    finally:
        net.close()
    return databases


def read(database: PathLike) -> NDArray[np.float32]:
    """The numbers of a database's records, (records, numbers of one)."""
    records = (datum.decode(datum.parse(value)) for _, value in open_store(database).read())
    return np.stack([record.ravel() for record in records])


def main() -> None:
    os.chdir(ROOT)  # the paths in the prototxt files start there
    if not MODEL.exists():
        sys.exit(
            "features.py: there is no LeNet yet: train it first, as the top of this file says."
        )
    try:
        features, labels = map(read, extract(["ip1", "label"], BATCHES))
        picture = HERE / "features.png"
        title = f"t-SNE of LeNet's ip1 for {len(features):,} digits of MNIST"
        viz.embedding(viz.tsne(features), labels[:, 0], picture, title=title)
    except moka.MokaError as error:
        sys.exit(f"features.py: {error}")
    print(f"Wrote {picture}")


if __name__ == "__main__":
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    main()
