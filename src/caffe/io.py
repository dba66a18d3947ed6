"""`caffe.io`: images and arrays on their way into a net and back, and to messages and back."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe.errors import raised_as
from moka.data import datum as moka_datum
from moka.errors import MokaError
from moka.predict import crops, images
from moka.predict.prepare import Preparation, check_channel_swap, check_transpose, fitted_mean
from moka.schema import blobproto, caffe_pb2
from moka.types import Array, PathLike, Shape

Image = NDArray[np.float32]  # (H, W, K)
# What pycaffe's module has imported for itself, and scripts take from it: module, name in it.
_OTHERS = {
    "skimage": ("skimage.io", None),
    "resize": ("skimage.transform", "resize"),
    "zoom": ("scipy.ndimage", "zoom"),
}
_PACKAGES = {"skimage": "scikit-image", "scipy": "scipy"}
NewSize = Sequence[int] | NDArray[np.integer[Any]]  # height, width


def __getattr__(name: str) -> Any:
    if name not in _OTHERS:
        raise AttributeError(f"module 'caffe.io' has no attribute '{name}'")
    module, function = _OTHERS[name]
    package = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise AttributeError(
            f"caffe.io.{name} is that of {_PACKAGES[package]}, which cannot be imported ({error})."
            f" Install it: pip install {_PACKAGES[package]}."
        ) from None
    return getattr(found, function) if function else sys.modules[package]


# --- arrays and messages ----------------------------------------------------------------------


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> NDArray[np.float64]:
    """The data (or diff) of a BlobProto as an array in its shape, or in its four axes of 2014.

    Raises:
        ValueError: the number of values does not fit the shape.
    """
    with raised_as(ValueError, MokaError):
        return blobproto.to_array(blob, diff=return_diff).astype(np.float64)


def array_to_blobproto(arr: ArrayLike, diff: ArrayLike | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto of an array, with `diff` if given."""
    return blobproto.from_array(np.asarray(arr), None if diff is None else np.asarray(diff))


def arraylist_to_blobprotovector_str(arraylist: Iterable[ArrayLike]) -> bytes:
    """The bytes of a BlobProtoVector of some arrays."""
    blobs = [array_to_blobproto(array) for array in arraylist]
    return caffe_pb2.BlobProtoVector(blobs=blobs).SerializeToString()


arraylist_to_blobprotovecor_str = arraylist_to_blobprotovector_str  # its name until 2015


def blobprotovector_str_to_arraylist(str: bytes) -> list[NDArray[np.float64]]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: Array, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of a (C, H, W) array; uint8 goes to `data`, everything else to `float_data`.

    Raises:
        ValueError: the array does not have three axes.
    """
    if arr.ndim != 3:
        raise ValueError("Incorrect array shape.")
    return moka_datum.encode(arr, label)


def datum_to_array(datum: caffe_pb2.Datum) -> Array:
    """The (C, H, W) array of a Datum: uint8, or float64 of `float_data`. An encoded image is
    decoded to BGR.

    Raises:
        ValueError: the number of values does not fit the shape, or the image cannot be decoded.
    """
    with raised_as(ValueError, MokaError):
        image = moka_datum.decode(datum)
    return image.astype(np.float64 if image.dtype == np.float32 else image.dtype)


# --- images -----------------------------------------------------------------------------------


def load_image(filename: PathLike | bytes | BinaryIO, color: bool = True) -> Image:
    """Read an image file as (H, W, 3), RGB, or as (H, W, 1) if not `color`; float32 from 0 to 1.

    Transparency is left out. A colored image becomes gray by its luminance.

    Args:
        filename: its name, text or bytes or a path, or an open file, such as an upload to a web
            page.

    Raises:
        OSError: the file cannot be read.
        DataError: it is no image.
    """
    if isinstance(filename, str | bytes | os.PathLike):
        filename = os.fsdecode(filename)
    return images.load_image(filename, color=color)


def resize_image(im: ArrayLike, new_dims: NewSize, interp_order: int = 1) -> Image:
    """Resize an image (H, W, K) to (new_dims[0], new_dims[1], K) float32, without smoothing.

    Images of one and three channels are resized as by scikit-image (`mode="reflect"`), others as
    by `scipy.ndimage.zoom` (`moka.predict.images`).

    Args:
        interp_order: of the spline: 0 nearest pixel, 1 linear, 3 cubic, up to 5.

    Raises:
        ValueError: not an image, not a size, or an unknown order.
    """
    with raised_as(ValueError):
        return images.resize_image(im, [int(n) for n in new_dims], interp_order)


def oversample(images: Iterable[Array], crop_dims: NewSize) -> Image:
    """Ten crops of each image: its four corners row by row, its middle, and these five mirrored.

    Args:
        images: (H, W, K) each.
        crop_dims: height and width of the crops.

    Returns:
        (10 N, height, width, K) float32.

    Raises:
        ValueError: a crop is larger than an image.
    """
    with raised_as(ValueError):
        return crops.oversample(images, crop_dims)


class Transformer:
    """Turns images into what a net's inputs take, and back.

    Args:
        inputs: the shape (N, C, H, W) of each input blob, by name.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = inputs
        self.transpose: dict[str, Sequence[int]] = {}
        self.channel_swap: dict[str, Sequence[int]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Array] = {}
        self.input_scale: dict[str, float] = {}

    def __check_input(self, in_: str) -> None:
        """Raise Exception unless it is an input. Programs' subclasses call it, too."""
        if in_ not in self.inputs:
            raise Exception(f"{in_} is not one of the net inputs: {self.inputs}")

    def _shape(self, in_: str) -> Shape:
        """The shape of an input without its first axis, the batch."""
        self.__check_input(in_)
        return tuple(int(n) for n in self.inputs[in_][1:])

    def preparation(self, in_: str) -> Preparation:
        """The settings of an input as a `Preparation`, which Moka's own functions take."""
        return Preparation(
            self._shape(in_),
            self.transpose.get(in_),
            self.channel_swap.get(in_),
            self.raw_scale.get(in_),
            self.mean.get(in_),
            self.input_scale.get(in_),
        )

    def preprocess(self, in_: str, data: ArrayLike) -> Image:
        """An image as an input takes it; the array given stays as it is.

        In this order: to float32, resized, transposed, channels swapped, raw scale, mean
        subtracted, input scale.

        Args:
            data: (H, W, K).

        Returns:
            (C, H, W) float32.
        """
        with raised_as(ValueError):
            return self.preparation(in_).prepare(data)

    def deprocess(self, in_: str, data: Array) -> Array:
        """Undo `preprocess`, but for the resizing: an image again, to look at.

        Args:
            data: (C, H, W), or (1, C, H, W): a batch of one.

        Returns:
            (H, W, C) if a transpose is set, else the array without axes of length 1.
        """
        return self.preparation(in_).restore(data)

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of axes that an input takes: (2, 0, 1) for images (H, W, K)."""
        with raised_as(Exception):
            check_transpose(order, self._shape(in_))
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of channels that an input takes: (2, 1, 0) makes BGR of RGB."""
        with raised_as(Exception):
            check_channel_swap(order, self._shape(in_))
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set a factor before the mean is subtracted: 255 where `load_image` gives 0 to 1."""
        self.__check_input(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """Set what is subtracted, in the input's order of channels.

        Args:
            mean: a value for each channel (C,), or an image (C, H, W), or (H, W) if there is one
                channel; an image of another size is resized.

        Raises:
            ValueError: another number of channels or axes.
        """
        shape = self._shape(in_)
        with raised_as(ValueError):
            self.mean[in_] = fitted_mean(mean, shape)

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set a factor after the mean is subtracted."""
        self.__check_input(in_)
        self.input_scale[in_] = scale
