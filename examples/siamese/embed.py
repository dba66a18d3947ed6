#!/usr/bin/env python3
"""Draw where the siamese net puts MNIST's test digits, colored by digit: embedding.png.

python examples/siamese/embed.py [WEIGHTS]      default: mnist_siamese_iter_50000.caffemodel
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import moka
from moka import viz
from moka.tools.convert_mnist import read_digits

HERE = Path(__file__).resolve().parent
MNIST = HERE.parent / "mnist" / "data"
MODEL = HERE / "mnist_siamese_iter_50000.caffemodel"


def main(argv: Sequence[str] | None = None) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("weights", nargs="?", type=Path, default=MODEL)
    given = parser.parse_args(argv)
    if not (MNIST / "t10k-images-idx3-ubyte").exists():
        sys.exit("embed.py: there is no MNIST yet: run examples/mnist/get_data first.")
    try:
        images, digits = read_digits(
            MNIST / "t10k-images-idx3-ubyte", MNIST / "t10k-labels-idx1-ubyte"
        )
        net = moka.load(HERE / "mnist_siamese.prototxt", given.weights)
        with torch.no_grad():
            places = net(data=torch.tensor(images)[:, None] / 256)["feat"]
        picture = HERE / "embedding.png"
        viz.embedding(
            places,
            digits,
            picture,
            title=f"{len(digits):,} digits of MNIST, as the siamese net sees them",
            axes=("feat 0", "feat 1"),
        )
    except moka.MokaError as error:
        sys.exit(f"embed.py: {error}")
    print(f"Wrote {picture}")


if __name__ == "__main__":
    main()
