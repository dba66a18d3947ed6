"""Show one held-out digit to the trained LeNet and print what it sees.

python examples/digits/classify.py [INDEX]
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import torch

import moka
from moka.data import datum
from moka.data.lmdb import LmdbStore

HERE = Path(__file__).resolve().parent
MODEL = HERE / "lenet_iter_1500.caffemodel"
SHADES = " .:-=+*#%@"


def main() -> None:
    index = sys.argv[1] if len(sys.argv) > 1 else "0"
    if not index.isdecimal():
        sys.exit(f"classify: INDEX is the number of a held-out digit, from 0; found {index!r}")
    if not MODEL.exists():
        sys.exit(f"classify: there is no {MODEL} yet: `make digits` trains it")
    records = list(islice(LmdbStore(HERE / "digits_test_lmdb").read(int(index)), 1))
    if not records:
        sys.exit(f"classify: there is no held-out digit number {index}")
    record = datum.parse(records[0][1])
    image = datum.decode(record)[:, 2:-2, 2:-2]  # the middle: (1, 28, 28), 0 to 255

    net = moka.load(HERE.parent / "mnist/lenet.prototxt", MODEL)
    with torch.no_grad():
        chances = net(data=torch.tensor(image[None]) / 256)["prob"][0]

    for row in image[0, ::2]:
        print("".join(SHADES[int(v) * len(SHADES) // 256] for v in row))
    print(f"held-out digit {index}, written as a {record.label}; LeNet sees")
    for digit in chances.argsort(descending=True)[:3].tolist():
        print(f"  {digit}  {chances[digit]:7.2%}")


if __name__ == "__main__":
    main()
