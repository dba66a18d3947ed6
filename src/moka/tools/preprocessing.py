"""What `classify` and `detect` share: flags, the net, and how images are prepared for it."""

from __future__ import annotations

import importlib.resources
from pathlib import Path
from typing import Any

import numpy as np

from moka.command import device, engine
from moka.command.tools import ILSVRC12_MEAN
from moka.errors import DataError, UsageError
from moka.inference.module import speed_up
from moka.net import Net, build_net
from moka.predict.prepare import Preparation, image_preparation
from moka.predict.score import input_shape
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import Array, PathLike
from moka.weights import load_weights

FETCHED_MEAN = "data/ilsvrc12/imagenet_mean.binaryproto"  # the same, by `caffe download ilsvrc12`


def open_net_for_images(flags: dict[str, Any]) -> tuple[Net, Preparation]:
    """The net that the flags name, and how images are prepared for it; says where the
    net runs.

    Raises:
        MokaError: a file that cannot be read, or a flag that does not fit the net.
    """
    engine.use(flags["engine"])
    swap = flags["channel_swap"]
    print("GPU mode" if flags["gpu"] else "CPU mode", flush=True)
    where = device.use("0" if flags["gpu"] else "")
    net = build_net(flags["model_def"], caffe_pb2.TEST, device=where)
    load_weights(net, [flags["pretrained_model"]])
    return speed_up(net), image_preparation(
        input_shape(net)[1:],
        mean=read_mean(flags["mean_file"]) if flags["mean_file"] else None,
        input_scale=flags["input_scale"],
        raw_scale=flags["raw_scale"],
        channel_swap=integers(swap, "channel_swap") if swap else None,
    )


def integers(text: str, name: str) -> list[int]:
    """The numbers of a flag such as 256,256. Raises UsageError if it holds anything else."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--{name} takes whole numbers joined by commas, found '{text}'."
        ) from None


def read_mean(file: PathLike) -> Array:
    """A mean, (C, H, W) or (C,), from a file with an array (.npy) or a BlobProto.

    Raises:
        DataError: the file is missing, or holds something else.
        SchemaError: the BlobProto cannot be read.
    """
    path = _mean_of_imagenet() if str(file) == ILSVRC12_MEAN else Path(file)
    if path.suffix == ".npy":
        return read_array(path)
    mean = to_array(read_binary(path, caffe_pb2.BlobProto))
    if mean.ndim == 4 and mean.shape[0] == 1:
        return mean[0]
    raise DataError(
        f"a mean file holds one image (1, channels, height, width), found shape {mean.shape}.",
        file=file,
    )


def _mean_of_imagenet() -> Path:
    """The file of ImageNet's mean image. Raises DataError if it is not there."""
    beside = Path(str(importlib.resources.files("caffe"))).parent / ILSVRC12_MEAN
    for path in (beside, Path(FETCHED_MEAN)):
        if path.exists():
            return path
    raise DataError(
        f"the mean image of ImageNet is not there: neither {beside} nor {FETCHED_MEAN}.",
        advice="Fetch it with `caffe download ilsvrc12`, or give another with --mean_file, or"
        " --mean_file '' for none.",
    )


def read_array(file: PathLike) -> Array:
    """The array in a .npy file. Raises DataError if the file is missing or holds none."""
    try:
        return np.load(file)
    except OSError as error:
        raise DataError(f"{error.strerror or error}.", file=file) from None
    except (ValueError, EOFError):
        raise DataError("it holds no array of numbers (numpy.save makes such files).",
                        file=file) from None  # fmt: skip
