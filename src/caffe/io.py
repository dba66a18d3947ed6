"""`caffe.io`: images and arrays on their way into a net and back, and to messages and back."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import Message
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


def _check_message(given: object, kind: type[Message]) -> None:
    """Raise TypeError for a file's name, or for bytes that nobody has parsed. Messages of another
    caffe_pb2 pass."""
    name = kind.DESCRIPTOR.name
    if isinstance(given, bytes):
        raise TypeError(f"a {name} is wanted, got bytes: caffe_pb2.{name}.FromString reads them.")
    if isinstance(given, str | os.PathLike):
        raise TypeError(
            f"a {name} is wanted, got a name of a file: open it with open(name, 'rb'), and give its"
            f" bytes to caffe_pb2.{name}.FromString."
        )


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> NDArray[np.float64]:
    """The data (or diff) of a BlobProto as an array in its shape, or in its four axes of 2014.

    Raises:
        ValueError: the number of values does not fit the shape.
        TypeError: bytes, or the name of a file.
    """
    _check_message(blob, caffe_pb2.BlobProto)
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


def array_to_datum(arr: ArrayLike, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of a (C, H, W) array; uint8 goes to `data`, everything else to `float_data`.

    Raises:
        ValueError: the array does not have three axes.
    """
    array = np.asarray(arr)
    if array.ndim != 3:
        advice = " Give it one channel: array[np.newaxis]." if array.ndim == 2 else ""
        raise ValueError(
            "Incorrect array shape. A Datum takes (channels, height, width), got"
            f" {array.shape}.{advice}"
        )
    return moka_datum.encode(array, label)


def datum_to_array(datum: caffe_pb2.Datum) -> Array:
    """The (C, H, W) array of a Datum: uint8, or float64 of `float_data`. An encoded image is
    decoded to BGR.

    Raises:
        ValueError: the number of values does not fit the shape, or the image cannot be decoded.
        TypeError: bytes, the name of a file, or an AnnotatedDatum.
    """
    _check_message(datum, caffe_pb2.Datum)
    if isinstance(datum, caffe_pb2.AnnotatedDatum):
        raise TypeError("a Datum is wanted, got an AnnotatedDatum: its image is its field `datum`.")
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
        TypeError: neither a name nor a file.
    """
    if isinstance(filename, str | bytes | os.PathLike):
        filename = os.fsdecode(filename)
    elif not hasattr(filename, "read"):
        raise TypeError(
            "load_image takes a file's name or an open file, not an object of type"
            f" {type(filename).__name__}."
        )
    return images.load_image(filename, color=color)


def _check_image(image: object) -> None:
    """Raise TypeError for what programs give in an image's place: a file's name, or None."""
    if isinstance(image, str | bytes | os.PathLike):
        raise TypeError(
            "an image is an array (height, width, channels), got a name of a file:"
            " caffe.io.load_image reads it."
        )
    if image is None:
        raise TypeError(
            "an image is an array (height, width, channels), got None, which cv2.imread returns if"
            " it cannot read a file."
        )


def image_list(images: Iterable[Array]) -> list[Array]:
    """Some images (H, W, K) as a list.

    Raises:
        TypeError: names of files, or None.
        ValueError: one image that is in no list.
    """
    if isinstance(images, np.ndarray) and images.ndim in (2, 3):
        raise ValueError(
            "a list of images (height, width, channels) is wanted, got an array of shape"
            f" {images.shape}: give [image]."
        )
    _check_image(images)
    listed = list(images)
    for image in listed:
        _check_image(image)
    return listed


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
        ValueError: a crop is larger than an image; an image that is in no list.
        TypeError: names of files in place of images.
    """
    with raised_as(ValueError):
        return crops.oversample(image_list(images), crop_dims)


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

        Raises:
            ValueError: an image with too few axes or channels.
            TypeError: the name of a file, or None.
        """
        preparation = self.preparation(in_)
        _check_image(data)
        order = preparation.transpose
        if order is not None and np.ndim(data) != len(order):
            advice = " Give it one channel: image[:, :, np.newaxis]." if np.ndim(data) == 2 else ""
            raise ValueError(
                f"an image is (height, width, channels), got shape {np.shape(data)}.{advice}"
            )
        with raised_as(ValueError):
            return preparation.prepare(data)

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
