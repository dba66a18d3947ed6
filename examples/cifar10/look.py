#!/usr/bin/env python3
"""What the quick net has learned and what it sees in an image, as pictures beside this file.

    python examples/cifar10/look.py [IMAGE]     default: the first test image of a frog

filters.png: the filters of conv1; feature_maps.png: what conv1 makes of the image; guesses.png: the
five classes that the net finds most probable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import moka
from moka import viz
from moka.data.images import read_image
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array

HERE = Path(__file__).resolve().parent
IMAGES = HERE / "data" / "images"
MODEL = HERE / "cifar10_quick_iter_5000.caffemodel"
SIDE = 32  # pixels


def main(argv: Sequence[str] | None = None) -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("image", nargs="?")
    given = parser.parse_args(argv)
    classes = sorted(folder.name for folder in (IMAGES / "test").glob("*"))
    try:
        path = given.image or min((IMAGES / "test" / "frog").glob("*"), default=IMAGES)
        image = read_image(path, color=True, size=(SIDE, SIDE))
        mean = to_array(read_binary(HERE / "mean.binaryproto", caffe_pb2.BlobProto))
        net = moka.load(HERE / "cifar10_quick.prototxt", MODEL)
        with torch.no_grad():
            blobs = net.propagate({"data": torch.tensor(image - mean.reshape(image.shape))[None]})
        weights = dict(net.named_layers())["conv1"].blobs[0]
        viz.filters(weights, HERE / "filters.png")
        viz.feature_maps(blobs["conv1"][0], HERE / "feature_maps.png", image=image)
        viz.guesses(blobs["prob"][0], classes, HERE / "guesses.png", image=image)
    except moka.MokaError as error:
        sys.exit(f"look.py: {error}")
    print(f"Wrote filters.png, feature_maps.png and guesses.png to {HERE}")


if __name__ == "__main__":
    main()
