"""What is on an image: `classification`, which answers as BVLC Caffe's C++ example does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from moka.command.run import run
from moka.data.decode import Image, decode_image, resize
from moka.data.images import read_file
from moka.errors import DataError, NetError
from moka.inference.module import speed_up
from moka.net import Net, build_net
from moka.predict.images import with_channels
from moka.predict.labels import Prediction, best_labels, read_labels
from moka.predict.score import class_count
from moka.schema import caffe_pb2
from moka.tools import preprocessing
from moka.types import Array, Floats, PathLike, Shape
from moka.weights import load_weights


def read_image_of_net(file: PathLike, channels: int) -> Image:
    """Read an image file as (channels, H, W), BGR if there are three, in the depth of the file.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        image = decode_image(read_file(file), os.fspath(file))
    except DataError as error:
        raise DataError(f"Unable to decode image {file}: {error.message}") from None
    return with_channels(image, channels)


def prepare(image: Image, mean: Array, size: Sequence[int]) -> Floats:
    """Resize an image (C, H, W) to `size` (height, width) and subtract the mean of each channel.

    Args:
        mean: an image (C, H, W), whose mean over all pixels is taken, or a value for each channel.
    """
    channel_mean = mean.reshape(len(mean), -1).mean(1, np.float64).reshape(-1, 1, 1)
    return resize(image, size[0], size[1]).astype(np.float32) - channel_mean.astype(np.float32)


def classification(net: Net, mean: Array, labels: Sequence[str], file: PathLike) -> Prediction:
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
    image = prepare(read_image_of_net(file, channels), mean, size)
    with torch.no_grad():
        (scores,) = net(**{net.graph.inputs[0]: torch.from_numpy(image[None])}).values()
    return best_labels(scores.cpu().numpy().ravel(), labels)


def _input_shape(net: Net) -> Shape:
    """Channels, height and width of a net's only input. Raises NetError if there is none."""
    inputs, outputs = net.graph.inputs, net.graph.outputs
    if len(inputs) != 1:
        raise NetError(f"Network should have exactly one input, it has {len(inputs)}.")
    if len(outputs) != 1:
        raise NetError(f"Network should have exactly one output, it has {len(outputs)}.")
    shape = net.input_shapes[inputs[0]]
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise NetError(f"Input layer should have 1 or 3 channels, its shape is {shape}.")
    return shape[1:]


def main(argv: Sequence[str] | None = None) -> int:
    """`classification DEPLOY WEIGHTS MEAN LABELS IMAGE`."""
    return run("classification", _classification, argv)


def _classification(words: list[str], flags: dict[str, Any]) -> None:
    model, weights, mean_file, labels_file, image = words
    net = build_net(model, caffe_pb2.TEST)
    load_weights(net, [weights])
    speed_up(net)
    _input_shape(net)
    mean = preprocessing.read_mean(mean_file)
    labels = read_labels(labels_file, class_count(net))
    print(f"---------- Prediction for {image} ----------", flush=True)
    for label, score in classification(net, mean, labels, image):
        print(f'{score:.4f} - "{label}"')
