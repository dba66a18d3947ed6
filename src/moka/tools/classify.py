"""What is on images: `classify`, with the arguments and the words of BVLC Caffe's classify.py."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import caffe
from moka.command.run import run
from moka.errors import DataError, UsageError
from moka.files import check_writable, write_atomically
from moka.tools import preprocessing
from moka.types import Array, PathLike

Prediction = list[tuple[str, float]]

TOP = 5


def read_images(source: str, *, ext: str = "jpg", color: bool = True) -> dict[str, Array]:
    """Images (H, W, K) by name: of a file, of the files of a folder that end in `.ext`, or of a
    .npy with an array (N, H, W, K); says what it loads.

    Raises:
        DataError: a file that holds no image or no such array, a folder without images.
        OSError: what cannot be read.
    """
    path = Path(source).expanduser()
    if path.suffix == ".npy":
        print(f"Loading file: {path}", flush=True)
        array = preprocessing.read_array(path)
        if array.ndim != 4:
            raise DataError(
                f"images are an array (number, height, width, channels), found shape"
                f" {array.shape}.",
                file=path,
            )
        return {f"{path}[{i}]": image for i, image in enumerate(array)}
    if path.is_dir():
        print(f"Loading folder: {path}", flush=True)
        files = sorted(path.glob(f"*.{ext}"))
        if not files:
            raise DataError(
                f"the folder holds no file that ends in .{ext}.",
                file=path,
                advice="Give the ending with --ext.",
            )
    else:
        print(f"Loading file: {path}", flush=True)
        files = [path]
    return {str(file): caffe.io.load_image(file, color) for file in files}


def read_labels(file: PathLike, classes: int) -> list[str]:
    """The names of classes, one a line.

    Raises:
        DataError: the file cannot be read, or has another number of lines than there are classes.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(
            f"Unable to open labels file: {error.strerror}.",
            file=file,
            advice="It has the name of a class on each line.",
        ) from None
    if len(lines) != classes:
        raise DataError(
            "Number of labels is different from the output layer dimension:"
            f" {len(lines)} lines, {classes} classes.",
            file=file,
        )
    return lines


def short_label(line: str) -> str:
    """The first name on a line of labels, without WordNet's number: "tabby" of "n02123045 tabby,
    tabby cat"."""
    return re.sub(r"^n\d{8}\s+", "", line.strip()).split(",")[0]


def best(scores: Array, labels: Sequence[str], count: int = TOP) -> Prediction:
    """The labels with the highest scores (classes,), highest first, each with its score."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [(labels[i], float(scores[i])) for i in order]


def classify(
    classifier: caffe.Classifier, images: Iterable[Array], *, oversample: bool = True
) -> NDArray[np.float32]:
    """The scores (N, classes) of images (H, W, K); says how many they are and how long it took.

    Raises:
        UsageError: images that the net cannot take.
    """
    inputs = list(images)
    print(f"Classifying {len(inputs)} inputs.", flush=True)
    start = time.time()
    with preprocessing.errors_of_pycaffe():
        scores = classifier.predict(inputs, oversample)
    print(f"Done in {time.time() - start:.2f} s.", flush=True)
    return scores


def main(argv: Sequence[str] | None = None) -> int:
    """`classify INPUT_FILE OUTPUT_FILE [FLAGS]`."""
    return run("classify", _classify, argv)


def _classify(words: list[str], flags: dict[str, Any]) -> None:
    source, output = words
    size = preprocessing.integers(flags["images_dim"], "images_dim")
    if len(size) != 2 or min(size) < 1:
        raise UsageError(f"--images_dim is height,width, found '{flags['images_dim']}'.")
    file = output if output.endswith(".npy") else f"{output}.npy"
    check_writable(file)
    gray = flags["force_grayscale"]
    if gray:
        flags = {**flags, "channel_swap": ""}
    net = preprocessing.open_net(caffe.Classifier, flags, image_dims=size)
    print(tuple(net.blobs[net.inputs[0]].data.shape), flush=True)
    labels = None
    if flags["print_results"]:
        classes = int(np.prod(net.blobs[net.outputs[0]].data.shape[1:]))
        labels = [short_label(line) for line in read_labels(flags["labels_file"], classes)]
    images = read_images(source, ext=flags["ext"], color=not gray)
    scores = classify(net, images.values(), oversample=not flags["center_only"])
    if labels:
        for name, row in zip(images, scores, strict=True):
            if len(images) > 1:
                print(f"{name}:")
            print([(label, f"{score:.5f}") for label, score in best(row.ravel(), labels)])
    print(f"Saving results into {output}")
    write_atomically(file, lambda opened: np.save(opened, scores))
