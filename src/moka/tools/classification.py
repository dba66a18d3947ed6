"""What is on an image: `classification`, which answers as BVLC Caffe's C++ example does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

import caffe
from moka.command.run import run
from moka.data.datum import Image, decode_image
from moka.data.images import read_file, resize
from moka.errors import DataError, NetError
from moka.tools import preprocessing
from moka.tools.classify import Prediction, best, read_labels
from moka.types import PathLike


def read_image(file: PathLike, channels: int) -> Image:
    """An image file as (channels, H, W) of its own depth; three channels are BGR.

    Raises:
        DataError: it cannot be read.
    """
    try:
        image = decode_image(read_file(file))
    except DataError as error:
        raise DataError(f"Unable to decode image {file}: {error.message}") from None
    if len(image) == channels:
        return image
    one, color = (cv2.COLOR_BGRA2GRAY, cv2.COLOR_BGRA2BGR) if len(image) == 4 else (
        cv2.COLOR_BGR2GRAY, cv2.COLOR_GRAY2BGR)  # fmt: skip
    planes = np.ascontiguousarray(image.transpose(1, 2, 0))
    changed = cv2.cvtColor(planes, one if channels == 1 else color)
    return changed[None] if changed.ndim == 2 else changed.transpose(2, 0, 1)


def prepare(image: Image, mean: NDArray[Any], size: Sequence[int]) -> NDArray[np.float32]:
    """An image (C, H, W), resized to `size` (height, width), less the mean of each channel.

    Args:
        mean: an image (C, ., .), whose mean over all pixels is taken, or that, (C,).
    """
    channel_mean = mean.reshape(len(mean), -1).mean(1, np.float64).reshape(-1, 1, 1)
    return resize(image, size[0], size[1]).astype(np.float32) - channel_mean.astype(np.float32)


def classification(
    net: caffe.Net, mean: NDArray[Any], labels: Sequence[str], file: PathLike
) -> Prediction:
    """The five best classes of an image file with their scores, from one pass over all of it.

    Args:
        net: with one input, images of one or three channels (BGR), and one output.
        mean: an image (C, H, W); the mean of each channel is subtracted.

    Raises:
        NetError: another net.
        DataError: the image cannot be read, or the mean has other channels.
    """
    channels, *size = _input_shape(net)
    if len(mean) != channels:
        raise DataError(
            f"Number of channels of mean file doesn't match input layer: {len(mean)} and"
            f" {channels}."
        )
    blob = net.blobs[net.inputs[0]]
    blob.reshape(1, channels, *size)
    net.reshape()
    blob.data[0] = prepare(read_image(file, channels), mean, size)
    scores = net.forward()[net.outputs[0]].ravel()
    return best(scores, labels)


def _input_shape(net: caffe.Net) -> tuple[int, ...]:
    """Channels, height and width of a net's only input."""
    if len(net.inputs) != 1:
        raise NetError(f"Network should have exactly one input, it has {len(net.inputs)}.")
    if len(net.outputs) != 1:
        raise NetError(f"Network should have exactly one output, it has {len(net.outputs)}.")
    shape = tuple(net.blobs[net.inputs[0]].data.shape)
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise NetError(f"Input layer should have 1 or 3 channels, its shape is {shape}.")
    return shape[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """`classification DEPLOY WEIGHTS MEAN LABELS IMAGE`."""
    return run("classification", _classification, argv)


def _classification(words: list[str], flags: dict[str, Any]) -> None:
    model, weights, mean_file, labels_file, image = words
    with preprocessing.errors_of_pycaffe():
        net = caffe.Net(model, caffe.TEST, weights=weights)
    _input_shape(net)
    mean = preprocessing.read_mean(mean_file)
    classes = int(np.prod(net.blobs[net.outputs[0]].data.shape[1:]))
    labels = read_labels(labels_file, classes)
    print(f"---------- Prediction for {image} ----------", flush=True)
    for label, score in classification(net, mean, labels, image):
        print(f'{score:.4f} - "{label}"')
