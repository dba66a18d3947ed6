"""What `classify` and `detect` share: their net, and how images are prepared for it."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from moka.command import device
from moka.command.tools import ILSVRC12_MEAN
from moka.errors import DataError, UsageError
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import PathLike

FETCHED_MEAN = "data/ilsvrc12/imagenet_mean.binaryproto"  # the same, by `caffe download ilsvrc12`
N = TypeVar("N")


def open_net(make: Callable[..., N], flags: dict[str, Any], **more: Any) -> N:
    """A `caffe.Classifier` or `caffe.Detector` of the flags' values; says where it runs.

    Args:
        more: further arguments of it.

    Raises:
        MokaError: a file that cannot be read, or a flag that does not fit the net.
    """
    swap = flags["channel_swap"]
    print("GPU mode" if flags["gpu"] else "CPU mode", flush=True)
    device.use("0" if flags["gpu"] else "")
    with errors_of_pycaffe():
        return make(
            flags["model_def"],
            flags["pretrained_model"],
            mean=read_mean(flags["mean_file"]) if flags["mean_file"] else None,
            input_scale=flags["input_scale"],
            raw_scale=flags["raw_scale"],
            channel_swap=integers(swap, "channel_swap") if swap else None,
            **more,
        )


def integers(text: str, name: str) -> list[int]:
    """The numbers of a flag like 256,256. Raises UsageError if they are none."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--{name} takes whole numbers joined by commas, found '{text}'."
        ) from None


def read_mean(file: PathLike) -> NDArray[Any]:
    """A mean, (C, H, W) or (C,), from an array's file (.npy) or a BlobProto's.

    Raises:
        DataError: the file is missing, or holds something else.
        SchemaError: a BlobProto that cannot be read.
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
    beside = Path(str(importlib.resources.files("caffe"))).parent / ILSVRC12_MEAN
    for path in (beside, Path(FETCHED_MEAN)):
        if path.exists():
            return path
    raise DataError(
        f"the mean image of ImageNet is not there: neither {beside} nor {FETCHED_MEAN}.",
        advice="Fetch it with `caffe download ilsvrc12`, or give another with --mean_file, or"
        " --mean_file '' for none.",
    )


def read_array(file: PathLike) -> NDArray[Any]:
    """The array of a .npy file. Raises DataError if there is none."""
    try:
        return np.load(file)
    except OSError as error:
        raise DataError(f"{error.strerror or error}.", file=file) from None
    except (ValueError, EOFError):
        raise DataError("it holds no array of numbers (numpy.save makes such files).",
                        file=file) from None  # fmt: skip


@contextmanager
def errors_of_pycaffe() -> Iterator[None]:
    """What pycaffe raises for a user's mistake, as a UsageError."""
    try:
        yield
    except Exception as error:
        if type(error) in (Exception, RuntimeError, ValueError):
            raise UsageError(str(error)) from None
        raise
