#!/usr/bin/env python3
"""What a net that looks at whole images says of them: its scores, class by class.

    python examples/rescue/score.py FOLDER IMAGE...

FOLDER holds the net and its weights, as Yahoo's open_nsfw (README.md says where to get it), whose
second score is the probability that an image is not suitable for work.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from shelf import Image, find, read_image

import moka

MEAN = (104.0, 117.0, 123.0)  # of ImageNet: blue, green, red
SIDE = 256  # pixels of the whole image, of which the middle is cut out


def score(
    net: moka.Net, image: Image, *, mean: Sequence[float] = MEAN, side: int = SIDE
) -> NDArray[np.float32]:
    """The net's first output for the middle of an image, (classes,).

    Args:
        net: takes images (1, 3, height, width), BGR, 0 to 255 less the mean.
        image: (height, width, 3), BGR, of any size.
        side: the size to which the image is brought before its middle is cut out.
    """
    name = net.graph.inputs[0]
    height, width = net.input_shapes[name][2:]
    whole = cv2.resize(image, (max(side, width), max(side, height)))
    top, left = (whole.shape[0] - height) // 2, (whole.shape[1] - width) // 2
    middle = whole[top : top + height, left : left + width].astype(np.float32) - np.array(
        mean, np.float32
    )
    with torch.no_grad():
        outputs = net(**{name: torch.from_numpy(middle).permute(2, 0, 1)[None]})
    scores: NDArray[np.float32] = next(iter(outputs.values())).flatten().numpy()
    return scores


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and print a line for each image."""
    parser = argparse.ArgumentParser(description="Score images with a net.")
    parser.add_argument("folder", help="the folder of the net and its weights")
    parser.add_argument("images", nargs="+")
    parser.add_argument("--mean", type=float, nargs=3, default=MEAN, help="of blue, green, red")
    args = parser.parse_args(argv)
    net = moka.load(*find(args.folder))
    for file in args.images:
        scores = score(net, read_image(file), mean=args.mean)
        print(f"{Path(file).name}: {' '.join(f'{value:.4f}' for value in scores)}")


if __name__ == "__main__":
    main()
