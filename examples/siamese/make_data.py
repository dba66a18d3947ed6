#!/usr/bin/env python3
"""Pairs of MNIST's digits in two databases beside this file: 60,000 to train with, 10,000 to test.

    examples/mnist/get_data             once
    python examples/siamese/make_data.py

By hand it is, for each of the two,

    convert_mnist_siamese_data -backend=lmdb -seed=1 \\
        examples/mnist/data/train-images-idx3-ubyte examples/mnist/data/train-labels-idx1-ubyte \\
        examples/siamese/mnist_siamese_train_lmdb
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from moka.errors import MokaError
from moka.tools.convert_mnist import convert_mnist_siamese

HERE = Path(__file__).resolve().parent
MNIST = HERE.parent / "mnist" / "data"


def main() -> None:
    for name, part in (("train", "train"), ("test", "t10k")):
        database = HERE / f"mnist_siamese_{name}_lmdb"
        if database.exists():
            print(f"{database.name} is there already")
            continue
        images, labels = (MNIST / f"{part}-{k}-ubyte" for k in ("images-idx3", "labels-idx1"))
        if not images.exists():
            sys.exit("make_data.py: there is no MNIST yet: run examples/mnist/get_data first.")
        try:
            count = convert_mnist_siamese(images, labels, database, backend="lmdb", seed=1)
        except MokaError as error:
            sys.exit(f"make_data.py: {error}")
        print(f"{database.name}: {count} pairs")


if __name__ == "__main__":
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    main()
