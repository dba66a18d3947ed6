"""Images to what an input blob holds for them, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from moka.errors import UsageError
from moka.predict.images import resize_image
from moka.types import Array, Floats, Shape

IMAGE_AXES = (2, 0, 1)  # the order of axes that makes (C, H, W) of an image (H, W, C)


@dataclass(frozen=True)
class Preparation:
    """The steps that turn an image into an input blob.

    The steps, in this order: resize to the blob's height and width, transpose, swap channels,
    multiply by `raw_scale`, subtract `mean`, multiply by `input_scale`. None leaves a step out.

    Attributes:
        shape: of the blob, without its first axis, the batch: (C, H, W).
        transpose: the order of the image's axes in the blob.
        channel_swap: the order of the image's channels in the blob: (2, 1, 0) makes BGR of RGB.
        raw_scale: 255 for images from 0 to 1 and a mean from 0 to 255.
        mean: anything that NumPy can subtract from (C, H, W).
        input_scale: a factor after the mean is subtracted.
    """

    shape: Shape
    transpose: Sequence[int] | None = None
    channel_swap: Sequence[int] | None = None
    raw_scale: float | None = None
    mean: Array | None = None
    input_scale: float | None = None

    def prepare(self, image: ArrayLike) -> Floats:
        """The (C, H, W) float32 of an image (H, W, K), which stays as it is.

        Raises:
            UsageError: the image has another size and is not (H, W, K).
        """
        size = self.shape[1:]
        values = np.array(image, np.float32)
        if values.shape[: len(size)] != size:
            values = resize_image(values, size)
        if self.transpose is not None:
            values = values.transpose(self.transpose)
        if self.channel_swap is not None:
            if len(values) <= max(self.channel_swap):
                raise UsageError(
                    f"the image has {len(values)} channels, of which {max(self.channel_swap) + 1}"
                    " are to be swapped.",
                    advice="A gray image needs to be read in color.",
                )
            values = values[list(self.channel_swap)]
        if self.raw_scale is not None:
            values *= self.raw_scale
        if self.mean is not None:
            values -= self.mean
        if self.input_scale is not None:
            values *= self.input_scale
        return values

    def restore(self, values: Array) -> Array:
        """Undo all steps of `prepare` but the resizing, to look at what a blob holds.

        Args:
            values: (C, H, W), or (1, C, H, W): a batch of one.

        Returns:
            (H, W, C) if there is a transpose, else the array without axes of length 1.
        """
        axes = len(self.shape)
        image = (
            values.copy() if values.ndim <= axes else values.reshape(values.shape[-axes:]).copy()
        )
        if self.input_scale is not None:
            image /= self.input_scale
        if self.mean is not None:
            image += self.mean
        if self.raw_scale is not None:
            image /= self.raw_scale
        if self.channel_swap is not None:
            image = image[np.argsort(self.channel_swap)]
        if self.transpose is not None:
            return image.transpose(np.argsort(self.transpose))
        return image.squeeze()

    def mean_image(self) -> Array:
        """The mean as images are before they are prepared, (H, W, K) or (1, 1, K); zeros if there
        is none."""
        if self.mean is None:
            channels, height, width = self.shape
            return np.zeros((height, width, channels), np.float32)
        planes = self.mean.reshape(-1, *self.mean.shape[-2:]) / (self.raw_scale or 1)
        swap = range(len(planes)) if self.channel_swap is None else self.channel_swap
        return planes[np.argsort(swap)].transpose(1, 2, 0)


def image_preparation(
    shape: Shape,
    *,
    mean: Array | None = None,
    input_scale: float | None = None,
    raw_scale: float | None = None,
    channel_swap: Sequence[int] | None = None,
) -> Preparation:
    """The preparation of images (H, W, K) for a blob of images; arguments as of `Preparation`.

    Args:
        mean: as `fitted_mean` takes it.

    Raises:
        UsageError: the mean or the channel swap does not fit the blob.
    """
    check_transpose(IMAGE_AXES, shape)
    if channel_swap is not None:
        check_channel_swap(channel_swap, shape)
    if mean is not None:
        mean = fitted_mean(mean, shape)
    return Preparation(shape, IMAGE_AXES, channel_swap, raw_scale, mean, input_scale)


def check_transpose(order: Sequence[int], shape: Shape) -> None:
    """Raise a UsageError unless the order names every axis of an input (C, H, W)."""
    if len(order) != len(shape):
        raise UsageError(
            "Transpose order needs to have the same number of dimensions as the input."
        )


def check_channel_swap(order: Sequence[int], shape: Shape) -> None:
    """Raise a UsageError unless the order names every channel of an input (C, H, W)."""
    if len(order) != shape[0]:
        raise UsageError(
            "Channel swap needs to have the same number of dimensions as the input channels."
        )


def fitted_mean(mean: Array, shape: Shape) -> Array:
    """A mean in the form that can be subtracted from an input (C, H, W).

    Args:
        mean: a value for each channel (C,), or an image (C, H, W), or (H, W) if there is one
            channel; an image of another size is resized.

    Raises:
        UsageError: another number of channels or axes, or no numbers.
    """
    mean = np.asarray(mean)
    if mean.dtype.kind not in "biuf":
        raise UsageError(
            "Mean shape invalid: a mean is an array of numbers; read its file first, with np.load"
            " or caffe.io.blobproto_to_array."
        )
    if mean.ndim not in (1, 2, 3):
        is_batch = mean.ndim == 4 and len(mean) == 1
        raise UsageError(
            f"Mean shape invalid: {mean.shape}; a mean is (C,) or (C, H, W), or (H, W) for one"
            f" channel{': give mean[0]' if is_batch else ''}."
        )
    channels = 1 if mean.ndim == 2 else mean.shape[0]
    if channels != shape[0]:
        is_last = mean.ndim == 3 and mean.shape[2] == shape[0]
        raise UsageError(
            f"Mean channels incompatible with input. The mean has {channels}, the input {shape[0]}"
            + ("; put them first: mean.transpose(2, 0, 1)." if is_last else ".")
        )
    if mean.ndim == 1:
        return mean[:, np.newaxis, np.newaxis]
    if mean.shape[-2:] == tuple(shape[1:]):
        return mean
    image = mean.reshape(channels, *mean.shape[-2:]).transpose(1, 2, 0)
    return resize_image(image, shape[1:]).transpose(2, 0, 1)
