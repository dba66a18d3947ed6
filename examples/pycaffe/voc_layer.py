"""Images with several labels each, of a folder as PASCAL VOC has it: a data layer in Python.

layer {
  name: "data" type: "Python" top: "data" top: "label"
  python_param {
    module: "voc_layer" layer: "VocLayer"
    param_str: '{"folder": "VOC2012", "split": "train", "batch_size": 50, "side": 227}'
  }
}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

import caffe

MEAN = np.array([104.0, 117.0, 123.0])  # of ImageNet's images: blue, green, red


def names_of(folder: Path, split: str) -> list[str]:
    """The images of a split ("train", "val"): ImageSets/Main/<split>.txt has one on each line."""
    return (folder / "ImageSets" / "Main" / f"{split}.txt").read_text().split()


def classes_on(folder: Path, name: str) -> set[str]:
    """What is on an image: the names of the objects in Annotations/<name>.xml."""
    file = folder / "Annotations" / f"{name}.xml"
    try:
        tree = ElementTree.parse(file)
    except ElementTree.ParseError as error:
        raise ValueError(f"{file} is no XML: {error}") from None
    return {found.text or "" for found in tree.iterfind("object/name")}


def classes_in(folder: Path) -> list[str]:
    """All classes of the images for training, sorted: their order is that of the labels."""
    return sorted(set[str]().union(*(classes_on(folder, n) for n in names_of(folder, "train"))))


def multi_hot(present: set[str], classes: Sequence[str]) -> NDArray[np.float32]:
    """(classes,): 1 for what is there, 0 for what is not."""
    return np.array([name in present for name in classes], np.float32)


class VocLayer(caffe.Layer):
    """Tops: data (batch_size, 3, side, side), BGR, less the mean; label (batch_size, classes), 0 or
    1. Images for training come in a new order in every epoch, half of them mirrored."""

    def setup(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        options = json.loads(self.param_str)
        self.folder = Path(options["folder"])
        self.training = options["split"] == "train"
        self.batch_size, side = options["batch_size"], options["side"]
        self.names = names_of(self.folder, options["split"])
        classes = classes_in(self.folder)
        labels = [multi_hot(classes_on(self.folder, name), classes) for name in self.names]
        self.labels = dict(zip(self.names, labels, strict=True))
        self.rng = np.random.default_rng(0)
        self.waiting: list[str] = []

        shape = (self.batch_size, 3, side, side)
        self.transformer = caffe.io.Transformer({"data": shape})
        self.transformer.set_transpose("data", (2, 0, 1))
        self.transformer.set_channel_swap("data", (2, 1, 0))
        self.transformer.set_raw_scale("data", 255)
        self.transformer.set_mean("data", MEAN)
        top[0].reshape(*shape)
        top[1].reshape(self.batch_size, len(classes))

    def reshape(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        """The shapes stay as `setup` has made them."""

    def forward(self, bottom: Sequence[Any], top: Sequence[Any]) -> None:
        for i in range(self.batch_size):
            name = self.next_name()
            image = caffe.io.load_image(self.folder / "JPEGImages" / f"{name}.jpg")
            if self.training and self.rng.random() < 0.5:
                image = image[:, ::-1]
            top[0].data[i] = self.transformer.preprocess("data", image)
            top[1].data[i] = self.labels[name]

    def next_name(self) -> str:
        if not self.waiting:
            self.waiting = list(self.rng.permutation(self.names) if self.training else self.names)
        return self.waiting.pop(0)

    def backward(self, top: Sequence[Any], propagate_down: Any, bottom: Sequence[Any]) -> None:
        """Data has no gradient."""
