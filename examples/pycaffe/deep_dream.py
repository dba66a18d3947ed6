#!/usr/bin/env python3
"""Let a net dream: change an image until a layer sees more of what it sees in it.

    caffe download bvlc_googlenet                       once
    python examples/pycaffe/deep_dream.py [IMAGE]       default: the Summer Palace
    python examples/pycaffe/deep_dream.py --layer inception_3b/5x5_reduce

Writes dream.png. The objective is half the sum of the squares of the layer's outputs; its gradient
for them are the outputs themselves, and the backward pass carries that down to the image. Small
copies of the image ("octaves") dream first, for large shapes (A. Mordvintsev, C. Olah, M. Tyka,
Inceptionism: Going deeper into neural networks, 2015).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import zoo
from google.protobuf import text_format
from numpy.typing import NDArray

import caffe
import moka
from caffe.proto import caffe_pb2

Image = NDArray[np.float32]  # (3, H, W), BGR, 0 to 255, less the mean
OCTAVE = 1.4  # the ratio of the sides of an octave to those of the one before
JITTER = 32  # pixels, so that no seams show
STEP = 1.5  # how far a pixel moves in a step, on average, of 255


def open_net(model: str, weights: str, out: Path) -> caffe.Net:
    """A net whose backward pass goes down to its input, though nothing learns there."""
    description = caffe_pb2.NetParameter()
    text_format.Parse(Path(model).read_text(), description)
    description.force_backward = True
    file = out / "dreaming.prototxt"
    file.write_text(str(description))
    return caffe.Net(str(file), caffe.TEST, weights=weights)


def ascend(net: caffe.Net, layer: str, image: Image, rng: np.random.Generator) -> float:
    """Change an image by one step up the gradient; returns the objective before it."""
    source, seen = net.blobs[net.inputs[0]], net.blobs[net.top_names[layer][0]]
    shift = rng.integers(-JITTER, JITTER + 1, 2)
    source.reshape(1, *image.shape)
    source.data[0] = np.roll(image, shift, (1, 2))
    net.forward(end=layer)
    seen.diff[...] = seen.data
    objective = float((seen.data.astype(np.float64) ** 2).sum()) / 2
    net.backward(start=layer)
    gradient = np.roll(source.diff[0], -shift, (1, 2))
    image += STEP / np.abs(gradient).mean() * gradient
    lowest = -zoo.MEAN[:, None, None]
    np.clip(image, lowest, lowest + 255, out=image)
    return objective


def resize(image: Image, size: tuple[int, int]) -> Image:
    return caffe.io.resize_image(image.transpose(1, 2, 0), size).transpose(2, 0, 1)


def dream(net: caffe.Net, layer: str, image: Image, octaves: int, steps: int) -> Image:
    """An image after dreaming, octave after octave from the smallest."""
    rng = np.random.default_rng(0)
    sides = np.array(image.shape[1:])
    change = np.zeros_like(image)
    for octave in reversed(range(octaves)):
        height, width = (int(side) for side in np.round(sides / OCTAVE**octave))
        base = resize(image, (height, width))
        dreamt = base + resize(change, (height, width))
        objectives = [ascend(net, layer, dreamt, rng) for _ in range(steps)]
        change = dreamt - base
        rise = f"{objectives[0]:.3g} to {objectives[-1]:.3g}"
        print(f"{width:4} x {height:<4} the objective rises from {rise}", flush=True)
    return image + change


def main(argv: Sequence[str] | None = None) -> None:
    parser = zoo.parser("deep_dream", __doc__, "bvlc_googlenet/deploy.prototxt")
    parser.add_argument("image", nargs="?", default=zoo.sample_image("china"))
    parser.add_argument("--layer", default="inception_4c/output")
    parser.add_argument("--octaves", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10, help="in each octave")
    given = parser.parse_args(argv)
    weights = zoo.use(given)
    try:
        net = open_net(str(given.model), weights, given.out)
        if given.layer not in net.top_names:
            sys.exit(f"deep_dream.py: the layers of this net are {', '.join(net.top_names)}.")
        rgb = caffe.io.load_image(given.image)
        image = rgb[..., ::-1].transpose(2, 0, 1) * 255 - zoo.MEAN[:, None, None]
        image = image.astype(np.float32)
        dreamt = dream(net, given.layer, image, given.octaves, given.steps)
    except (moka.MokaError, OSError) as error:
        sys.exit(f"deep_dream.py: {error}")
    pixels = dreamt.transpose(1, 2, 0) + zoo.MEAN
    cv2.imwrite(str(given.out / "dream.png"), pixels.clip(0, 255).round().astype(np.uint8))
    print(f"The picture is in {given.out}")


if __name__ == "__main__":
    main()
