#!/usr/bin/env python3
"""What a net sees in a photograph: its five best guesses, its first filters, what they make of it.

    caffe download bvlc_reference_caffenet                          once
    caffe download ilsvrc12                                         once: the names of the classes
    python examples/pycaffe/classification.py [IMAGE]               default: a flower
    python examples/pycaffe/classification.py --model models/vgg16/deploy.prototxt IMAGE

Draws guesses.png, filters.png and feature_maps.png.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import zoo

import caffe
import moka
from moka import viz
from moka.predict.labels import read_labels, short_label


def main(argv: Sequence[str] | None = None) -> None:
    parser = zoo.parser("classification", __doc__, "bvlc_reference_caffenet/deploy.prototxt")
    parser.add_argument("image", nargs="?", default=zoo.sample_image("flower"))
    parser.add_argument("--labels", default="data/ilsvrc12/synset_words.txt", metavar="FILE")
    given = parser.parse_args(argv)
    weights = zoo.use(given)
    try:
        look(given.image, str(given.model), weights, given.labels, given.out)
    except (moka.MokaError, OSError) as error:
        sys.exit(f"classification.py: {error}")
    print(f"The pictures are in {given.out}")


def look(file: str, model: str, weights: str, labels_file: str, out: Path) -> None:
    net = caffe.Net(model, caffe.TEST, weights=weights)
    name, prob = net.inputs[0], net.outputs[0]
    net.blobs[name].reshape(1, *net.blobs[name].data.shape[1:])  # one image at a time

    image = caffe.io.load_image(file)  # (H, W, 3), RGB, 0 to 1
    net.blobs[name].data[0] = zoo.transformer(net).preprocess(name, image)
    chances = net.forward()[prob].ravel()

    print("What is in the net, for one image:")
    for blob, value in net.blobs.items():
        print(f"  {blob:<24} {value.data.shape}")
    print("What it has learned:")
    for layer, blobs in net.params.items():
        print(f"  {layer:<24} {'  '.join(str(blob.data.shape) for blob in blobs)}")

    labels = [short_label(line) for line in read_labels(labels_file, len(chances))]
    print(f"What it sees in {file}:")
    for i in chances.argsort()[::-1][:5]:
        print(f"  {chances[i]:7.2%}  {labels[i]}")

    shown = (image.transpose(2, 0, 1)[::-1] * 255).astype(np.uint8)  # (3, H, W), BGR
    first = next(iter(net.params))
    viz.guesses(chances, labels, out / "guesses.png", image=shown)
    viz.filters(net.params[first][0].data, out / "filters.png")
    seen = net.blobs[net.top_names[first][0]].data[0]
    viz.feature_maps(seen, out / "feature_maps.png", image=shown)


if __name__ == "__main__":
    main()
