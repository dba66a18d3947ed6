"""Encoded images to what a net's input takes: decoded and resized by OpenCV, as Caffe's program
`classification` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from moka.data.decode import Decoder, decode_image
from moka.errors import DataError, NetError, UsageError
from moka.predict.crops import CROPS, MIDDLE, five_parts
from moka.predict.images import with_channels
from moka.predict.prepare import check_channel_swap, fitted_mean
from moka.serving.errors import BadRequestError
from moka.types import Array, Floats, HeightWidth, Shape

BYTE, DEEP = 255, 65535  # the largest value of 8 and of 16 bits
COLORS, GRAY = 3, 1

_UPRIGHT = Decoder(color=True)


@dataclass(frozen=True)
class Look:
    """How a model wants its images.

    Attributes:
        mean: a value for each channel (C,), or an image (C, H, W), of the blob; None: none.
        scale: a factor, once the mean is subtracted.
        raw_scale: what the byte 255 becomes before.
        channel_swap: the order of red, green and blue in the blob; (2, 1, 0) makes BGR.
        resize: height and width that images get before their middle, or ten crops, are cut out;
            None: those of the input.
    """

    mean: Array | None = None
    scale: float = 1.0
    raw_scale: float = 255.0
    channel_swap: tuple[int, ...] = (2, 1, 0)
    resize: HeightWidth | None = None


class _Part(NamedTuple):
    """A part of a resized image, with the mean (C, H, W) or (C, 1, 1) that belongs to it."""

    at: tuple[slice, slice]
    is_mirrored: bool
    mean: Floats


class ImageInput:
    """Fills a net's input with an image.

    Args:
        shape: of the input, (C, H, W).
        look: how the model wants images.

    Raises:
        NetError: an input that takes no images of one or three channels.
        UsageError: a mean, an order of channels or a size that does not fit the input.
    """

    def __init__(self, shape: Shape, look: Look) -> None:
        if len(shape) != 3 or shape[0] not in (GRAY, COLORS):
            raise NetError(f"images have one or three channels, the input takes {shape}.")
        self.shape, self.look = shape, look
        channels, height, width = shape
        self.resized = look.resize or (height, width)
        self._factor = np.float32(look.raw_scale / BYTE)
        self._order = [0]
        if channels == COLORS:
            check_channel_swap(look.channel_swap, shape)
            if sorted(look.channel_swap) != list(range(COLORS)):
                raise UsageError(f"the order of channels is {look.channel_swap}, not of 0, 1, 2.")
            self._order = [COLORS - 1 - i for i in look.channel_swap]  # of the BGR that is decoded
        five = [(at, self._fitted(look.mean, at)) for at in five_parts(self.resized, shape[1:])]
        self._parts = [_Part(at, i >= len(five), mean) for i, (at, mean) in enumerate(2 * five)]
        assert len(self._parts) == CROPS

    def _fitted(self, mean: Array | None, at: tuple[slice, slice]) -> Floats:
        """The mean of a part of the image."""
        channels = self.shape[0]
        if mean is None:
            return np.zeros((channels, 1, 1), np.float32)
        if mean.shape == (channels, *self.resized):
            return np.ascontiguousarray(mean[(slice(None), *at)], np.float32)
        return fitted_mean(mean, self.shape).astype(np.float32)

    def fill(self, data: bytes, blob: Floats, name: str, *, upright: bool = False) -> HeightWidth:
        """Decode an image and put its middle into `blob` (C, H, W); returns its own height and
        width.

        Args:
            upright: see `pixels`.

        Raises:
            BadRequestError: it cannot be decoded.
        """
        pixels, size = self.opened(data, name, upright=upright)
        self.fill_pixels(pixels, blob)
        return size

    def opened(self, data: bytes, name: str, *, upright: bool = False) -> tuple[Array, HeightWidth]:
        """An image (H, W, C) resized as the model wants, and its own height and width; see
        `pixels`."""
        pixels = self.pixels(data, name, upright=upright)
        size = (pixels.shape[0], pixels.shape[1])
        if size != self.resized:
            height, width = self.resized
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return pixels, size

    def pixels(self, data: bytes, name: str, *, upright: bool = False) -> Array:
        """The image (H, W, C), BGR or gray, uint8, or float32 of the same range if it has 16 bits a
        channel.

        Args:
            upright: turn it as its EXIF says, as OpenCV does, which makes 8 bits of 16; otherwise
                EXIF is not looked at, as by Caffe's program and by pycaffe.

        Raises:
            BadRequestError: it cannot be decoded.
        """
        try:
            decode = _UPRIGHT if upright else decode_image
            image = with_channels(decode(data, name), self.shape[0])
        except DataError as error:
            raise BadRequestError(error.message) from None
        if image.dtype == np.uint16:
            image = image * np.float32(BYTE / DEEP)
        return image.transpose(1, 2, 0)

    def fill_pixels(self, pixels: Array, blob: Floats, crop: int = MIDDLE) -> None:
        """Fill `blob` with a part of an image that is `opened`.

        Args:
            crop: which of the ten parts (`moka.predict.crops.oversample`).
        """
        at, is_mirrored, mean = self._parts[crop]
        planes: Sequence[Array] = cv2.split(pixels)
        for c, plane in enumerate(self._order):
            part = planes[plane][at]
            if is_mirrored:
                part = part[:, ::-1]
            if self._factor == 1:
                np.subtract(part, mean[c], out=blob[c], dtype=np.float32)
            else:
                np.multiply(part, self._factor, out=blob[c], dtype=np.float32)
                blob[c] -= mean[c]
        if self.look.scale != 1:
            blob *= np.float32(self.look.scale)
