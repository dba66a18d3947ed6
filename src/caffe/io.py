"""`caffe.io`: images and arrays on their way into a net and back, and to messages and back."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from moka.data import datum as moka_datum
from moka.data.decode import decode_image
from moka.data.resample import resample
from moka.errors import DataError, MokaError
from moka.schema import blobproto, caffe_pb2
from moka.types import Array, PathLike

Image = NDArray[np.float32]  # (H, W, K)
Size = Sequence[int] | NDArray[np.integer[Any]]  # height, width

# Of red, green and blue, as scikit-image weighs them.
LUMINANCE = np.array([[0.2125], [0.7154], [0.0721]], np.float32)

# --- arrays and messages ----------------------------------------------------------------------


def blobproto_to_array(blob: caffe_pb2.BlobProto, return_diff: bool = False) -> NDArray[np.float64]:
    """The data (or diff) of a BlobProto as an array in its shape, or its four axes of 2014.

    Raises:
        ValueError: the count of numbers does not fit the shape.
    """
    try:
        return blobproto.to_array(blob, diff=return_diff).astype(np.float64)
    except MokaError as error:
        raise ValueError(str(error)) from None


def array_to_blobproto(arr: ArrayLike, diff: ArrayLike | None = None) -> caffe_pb2.BlobProto:
    """A BlobProto of an array, with `diff` if given."""
    return blobproto.from_array(np.asarray(arr), None if diff is None else np.asarray(diff))


def arraylist_to_blobprotovector_str(arraylist: Iterable[ArrayLike]) -> bytes:
    """The bytes of a BlobProtoVector of some arrays."""
    blobs = [array_to_blobproto(array) for array in arraylist]
    return caffe_pb2.BlobProtoVector(blobs=blobs).SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[NDArray[np.float64]]:
    """The arrays in the bytes of a BlobProtoVector."""
    return [blobproto_to_array(blob) for blob in caffe_pb2.BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: Array, label: int | None = None) -> caffe_pb2.Datum:
    """A Datum of a (C, H, W) array; uint8 goes to `data`, everything else to `float_data`.

    Raises:
        ValueError: the array has not three axes.
    """
    if arr.ndim != 3:
        raise ValueError("Incorrect array shape.")
    return moka_datum.encode(arr, label)


def datum_to_array(datum: caffe_pb2.Datum) -> Array:
    """The (C, H, W) array of a Datum: uint8, or float64 of `float_data`; an encoded image is
    decoded, to BGR.

    Raises:
        ValueError: its numbers do not fit its shape, or the image cannot be decoded.
    """
    try:
        image = moka_datum.decode(datum)
    except MokaError as error:
        raise ValueError(str(error)) from None
    return image.astype(np.float64 if image.dtype == np.float32 else image.dtype)


# --- images -----------------------------------------------------------------------------------


def load_image(filename: PathLike | BinaryIO, color: bool = True) -> Image:
    """An image file as (H, W, 3), RGB, or (H, W, 1) if not `color`; float32 from 0 to 1.

    Transparency is left out. Gray of coloured files is their luminance.

    Args:
        filename: its name, or an open file: what a web page was sent, for example.

    Raises:
        OSError: the file cannot be read.
        DataError: it is no image.
    """
    if isinstance(filename, str | os.PathLike):
        data, name = Path(filename).read_bytes(), filename
    else:
        data, name = filename.read(), "(open file)"
    try:
        planes = decode_image(data, os.fspath(name))
    except DataError as error:
        raise error.at(file=name) from None
    top = np.iinfo(planes.dtype).max if planes.dtype.kind == "u" else 1
    image = (planes.transpose(1, 2, 0) / np.float64(top)).astype(np.float32)
    if image.shape[2] == 1:
        return np.tile(image, (1, 1, 3)) if color else image
    rgb = image[:, :, 2::-1]
    return np.ascontiguousarray(rgb) if color else rgb @ LUMINANCE


def resize_image(im: ArrayLike, new_dims: Size, interp_order: int = 1) -> Image:
    """An image (H, W, K) of another size, (new_dims[0], new_dims[1], K) float32, not smoothed.

    As in pycaffe, images of one and three channels are stretched corner to corner, and others so
    that the centres of their corner pixels stay in the corners (`moka.data.resample`).

    Args:
        interp_order: of the spline: 0 nearest pixel, 1 linear, 3 cubic, up to 5.

    Raises:
        ValueError: what is no image, no size or no order.
    """
    image = np.asarray(im)
    size = [int(n) for n in new_dims]
    centres = image.shape[-1:] not in ((1,), (3,))
    return resample(image, size, interp_order, centres=centres).astype(np.float32)


def center_crop(size: Size, crop: Size) -> tuple[slice, slice]:
    """The rows and columns of a crop (height, width) in the middle of an image of a size.

    Raises:
        ValueError: the crop is larger than the image.
    """
    (h, w), (crop_h, crop_w) = ((int(n) for n in each) for each in (size, crop))
    if crop_h > h or crop_w > w:
        raise ValueError(f"a crop of {crop_h} x {crop_w} is larger than the image, {h} x {w}.")
    top, left = (h - crop_h) // 2, (w - crop_w) // 2
    return slice(top, top + crop_h), slice(left, left + crop_w)


def oversample(images: Iterable[Array], crop_dims: Size) -> Image:
    """Ten crops of each image: its four corners row by row, its middle, and these five mirrored.

    Args:
        images: (H, W, K) each.
        crop_dims: height and width of the crops.

    Returns:
        (10 N, height, width, K) float32.

    Raises:
        ValueError: a crop is larger than an image.
    """
    h, w = (int(n) for n in crop_dims)
    ends = [(slice(n), slice(-n, None)) for n in (h, w)]
    corners = [(rows, columns) for rows in ends[0] for columns in ends[1]]
    crops = []
    for image in images:
        five = [image[at] for at in (*corners, center_crop(image.shape[:2], (h, w)))]
        crops += five + [crop[:, ::-1] for crop in five]
    return np.array(crops, np.float32)


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

    def _shape(self, in_: str) -> tuple[int, ...]:
        """The shape of an input without its first axis, the batch."""
        if in_ not in self.inputs:
            raise Exception(f"{in_} is not one of the net inputs: {self.inputs}")
        return tuple(int(n) for n in self.inputs[in_][1:])

    def preprocess(self, in_: str, data: ArrayLike) -> Image:
        """An image as an input takes it; the array given stays as it is.

        In this order: to float32, resized, transposed, channels swapped, raw scale, mean
        subtracted, input scale.

        Args:
            data: (H, W, K).

        Returns:
            (C, H, W) float32.
        """
        size = self._shape(in_)[1:]
        image = np.array(data, np.float32)
        if image.shape[: len(size)] != size:
            image = resize_image(image, size)
        if in_ in self.transpose:
            image = image.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            image = image[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            image *= self.raw_scale[in_]
        if in_ in self.mean:
            image -= self.mean[in_]
        if in_ in self.input_scale:
            image *= self.input_scale[in_]
        return image

    def deprocess(self, in_: str, data: Array) -> Array:
        """The inverse of `preprocess`, but for the size: an image again, for looking at.

        Args:
            data: (C, H, W), or (1, C, H, W): a batch of one.

        Returns:
            (H, W, C) where a transpose is set, else the array without axes of length 1.
        """
        axes = len(self._shape(in_))
        image = data.copy() if data.ndim <= axes else data.reshape(data.shape[-axes:]).copy()
        if in_ in self.input_scale:
            image /= self.input_scale[in_]
        if in_ in self.mean:
            image += self.mean[in_]
        if in_ in self.raw_scale:
            image /= self.raw_scale[in_]
        if in_ in self.channel_swap:
            image = image[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            return image.transpose(np.argsort(self.transpose[in_]))
        return image.squeeze()

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """The order of axes that an input takes: (2, 0, 1) for images (H, W, K)."""
        if len(order) != len(self._shape(in_)):
            raise Exception(
                "Transpose order needs to have the same number of dimensions as the input."
            )
        self.transpose[in_] = order

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """The order of channels that an input takes: (2, 1, 0) makes BGR of RGB."""
        if len(order) != self._shape(in_)[0]:
            raise Exception(
                "Channel swap needs to have the same number of dimensions as the input channels."
            )
        self.channel_swap[in_] = order

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """A factor before the mean is subtracted: 255 where `load_image` gives 0 to 1."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: Array) -> None:
        """What is subtracted, in the input's order of channels.

        Args:
            mean: a value for each channel (C,), or an image (C, H, W), or (H, W) where there is one
                channel; an image of another size is resized.

        Raises:
            ValueError: another number of channels or axes.
        """
        shape = self._shape(in_)
        if mean.ndim not in (1, 2, 3):
            raise ValueError("Mean shape invalid")
        channels = 1 if mean.ndim == 2 else mean.shape[0]
        if channels != shape[0]:
            raise ValueError("Mean channels incompatible with input.")
        if mean.ndim == 1:
            mean = mean[:, np.newaxis, np.newaxis]
        elif mean.shape[-2:] != shape[1:]:
            image = mean.reshape(channels, *mean.shape[-2:]).transpose(1, 2, 0)
            mean = resize_image(image, shape[1:]).transpose(2, 0, 1)
        self.mean[in_] = mean

    def set_input_scale(self, in_: str, scale: float) -> None:
        """A factor after the mean is subtracted."""
        self._shape(in_)
        self.input_scale[in_] = scale
