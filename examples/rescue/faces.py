#!/usr/bin/env python3
"""Find faces, or anything else that an SSD was trained to find, and draw boxes around them.

    python examples/rescue/faces.py FOLDER IMAGE [--output faces.png] [--threshold 0.5]

FOLDER holds the net and its weights, as OpenCV's face detector (README.md says where to get it).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from shelf import Image, find, read_image

import moka

MEAN = (104.0, 177.0, 123.0)  # of OpenCV's face detector: blue, green, red
GREEN, BLACK = (0, 200, 0), (0, 0, 0)


class Box(NamedTuple):
    """Something found: its class, a score of 0 to 1, and its corners in pixels."""

    label: int
    score: float
    left: int
    top: int
    right: int
    bottom: int


def detect(
    net: moka.Net,
    image: Image,
    *,
    threshold: float = 0.5,
    mean: Sequence[float] = MEAN,
    scale: float = 1.0,
) -> list[Box]:
    """What an SSD finds on an image, the best first. Ends the program if the net finds no boxes.

    Args:
        net: its first input takes images (1, 3, height, width), BGR; one of its outputs has a row
            of 7 for each box: image, class, score, left, top, right, bottom as shares of the sides.
        image: (height, width, 3), BGR, 0 to 255, of any size.
        threshold: boxes with a lower score are left out.
        mean: subtracted from blue, green and red.
        scale: what then is multiplied.
    """
    name = net.graph.inputs[0]
    height, width = net.input_shapes[name][2:]
    pixels = cv2.resize(image, (width, height)).astype(np.float32)
    data = torch.from_numpy((pixels - np.array(mean, np.float32)) * np.float32(scale)).permute(
        2, 0, 1
    )
    with torch.no_grad():
        outputs = net(**{name: data[None]})
    for rows in outputs.values():
        if rows.dim() == 4 and rows.shape[-1] == 7:
            return boxes(rows.reshape(-1, 7).tolist(), image.shape[0], image.shape[1], threshold)
    sys.exit(f"the net finds no boxes: its outputs are {', '.join(outputs)}.")


def boxes(rows: Sequence[Sequence[float]], height: int, width: int, threshold: float) -> list[Box]:
    """The rows of a DetectionOutput as boxes within an image of this size, the best first."""
    found = []
    for _, label, score, *corners in rows:
        if label < 0 or score < threshold:  # a row of -1 says: nothing found
            continue
        left, right = (round(min(max(x, 0.0), 1.0) * width) for x in corners[::2])
        top, bottom = (round(min(max(y, 0.0), 1.0) * height) for y in corners[1::2])
        if right > left and bottom > top:
            found.append(Box(int(label), score, left, top, right, bottom))
    return sorted(found, key=lambda box: -box.score)


def draw(image: Image, found: Sequence[Box]) -> Image:
    """A copy of an image with boxes and their scores."""
    drawn = image.copy()
    thick = max(1, round(min(image.shape[:2]) / 250))
    for box in found:
        cv2.rectangle(drawn, (box.left, box.top), (box.right, box.bottom), GREEN, thick)
        text, font, size = f"{box.score:.2f}", cv2.FONT_HERSHEY_SIMPLEX, 0.25 + 0.12 * thick
        (width, height), under = cv2.getTextSize(text, font, size, 1)
        top = max(0, box.top - height - under)
        corner = (box.left + width + 2, top + height + under)
        cv2.rectangle(drawn, (box.left, top), corner, GREEN, cv2.FILLED)
        at = (box.left + 1, top + height + under // 2)
        cv2.putText(drawn, text, at, font, size, BLACK, 1, cv2.LINE_AA)
    return drawn


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line, find, print a line for each box, write the picture."""
    parser = argparse.ArgumentParser(description="Find things in an image with an SSD.")
    parser.add_argument("folder", help="the folder of the net and its weights")
    parser.add_argument("image")
    parser.add_argument("--output", default="faces.png", help="the picture with boxes")
    parser.add_argument("--threshold", type=float, default=0.5, help="the least score, 0 to 1")
    parser.add_argument("--mean", type=float, nargs=3, default=MEAN, help="of blue, green, red")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies what is left")
    args = parser.parse_args(argv)
    image = read_image(args.image)
    net = moka.load(*find(args.folder))
    found = detect(net, image, threshold=args.threshold, mean=args.mean, scale=args.scale)
    for box in found:
        corners = f"{box.left},{box.top} to {box.right},{box.bottom}"
        print(f"class {box.label}, score {box.score:.3f}: {corners}")
    cv2.imwrite(args.output, draw(image, found))
    print(f"{len(found)} found: {args.output}")


if __name__ == "__main__":
    main()
