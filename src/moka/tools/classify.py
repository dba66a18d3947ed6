"""What is on images: `classify`, with the arguments and the words of BVLC Caffe's classify.py."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from moka.command.run import run
from moka.errors import DataError, UsageError
from moka.files import check_writable, write_atomically
from moka.net import Net
from moka.predict.classify import classify as classify_images
from moka.predict.images import load_image
from moka.predict.labels import best_labels, read_labels, short_label
from moka.predict.prepare import Preparation
from moka.predict.score import class_count, input_shape, score
from moka.tools import preprocessing
from moka.types import Array, Floats


def read_images(source: str, *, ext: str = "jpg", color: bool = True) -> dict[str, Array]:
    """Images (H, W, K) by name; says what it loads.

    Args:
        source: an image file, a folder with files that end in `.ext`, or a .npy file with an array
            (N, H, W, K).

    Raises:
        DataError: a file that holds no image or no such array, a folder without images.
        OSError: a file that cannot be read.
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
    return {str(file): load_image(file, color=color) for file in files}


def timed_scores(
    net: Net,
    preparation: Preparation,
    images: Iterable[Array],
    *,
    image_size: Sequence[int],
    average_crops: bool = True,
) -> Floats:
    """The scores (N, classes) of images (H, W, K); says how many they are and how long it took.

    Args:
        preparation, image_size, average_crops: see `moka.predict.classify`.

    Raises:
        UsageError: images that the net cannot take.
    """
    inputs = list(images)
    print(f"Classifying {len(inputs)} inputs.", flush=True)
    start = time.time()
    scores = classify_images(
        inputs,
        preparation.prepare,
        partial(score, net),
        input_shape=preparation.shape,
        image_size=image_size,
        average_crops=average_crops,
    )
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
    net, preparation = preprocessing.open_net_for_images(flags)
    print(input_shape(net), flush=True)
    labels = None
    if flags["print_results"]:
        lines = read_labels(flags["labels_file"], class_count(net))
        labels = [short_label(line) for line in lines]
    images = read_images(source, ext=flags["ext"], color=not gray)
    scores = timed_scores(
        net,
        preparation,
        images.values(),
        image_size=size,
        average_crops=not flags["center_only"],
    )
    if labels:
        for name, row in zip(images, scores, strict=True):
            if len(images) > 1:
                print(f"{name}:")
            print([(label, f"{score:.5f}") for label, score in best_labels(row.ravel(), labels)])
    print(f"Saving results into {output}")
    write_atomically(file, lambda opened: np.save(opened, scores))
