"""Two databases of handwriting: the digits that ship with scikit-learn, as images for LeNet.

1,797 digits of 8 x 8 pixels with values 0 to 16 (Alpaydin and Kaynak, 1998) become 24 x 24 images
of 0 to 255 with a border of 4: 32 x 32, of which training crops 28 x 28 at random. Every fifth is
held out for testing.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import cv2
import numpy as np
from sklearn.datasets import load_digits

from moka.data.datum import encode
from moka.data.lmdb import LmdbWriter

HERE = Path(__file__).resolve().parent
SIDE, BORDER = 24, 4  # pixels


def main() -> None:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    held_out = order[::5]
    for name, members in (("test", held_out), ("train", np.setdiff1d(order, held_out))):
        database = HERE / f"digits_{name}_lmdb"
        shutil.rmtree(database, ignore_errors=True)
        with LmdbWriter(database) as writer:
            for i, k in enumerate(np.random.default_rng(1).permutation(members)):
                image = cv2.resize(digits.images[k] * (255 / 16), (SIDE, SIDE))
                image = np.pad(image.round().astype(np.uint8), BORDER)
                datum = encode(image[None], int(digits.target[k]))
                writer.put(f"{i:08d}".encode(), datum.SerializeToString())
        print(f"{database.name}: {len(members)} images")


if __name__ == "__main__":
    form = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=form).parse_args()
    main()
