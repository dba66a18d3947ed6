"""SSD's noise: changes that make an image worse, from blur to salt and pepper."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from moka.data.decode import Image
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2

_BLUR_SIZE, _BLUR_SIGMA = (7, 7), 1.5
_CLIP_LIMIT = 4  # of CLAHE
_LEVEL = 64  # posterized values are the middles of steps of this width
_IN_COLOR = ("decolorize", "convert_to_hsv", "convert_to_lab")
_SALT = caffe_pb2.SaltPepperParameter


class Noise:
    """The changes that a NoiseParameter asks for, always and in this order: decolorize, gauss_blur
    (7 x 7, sigma 1.5), hist_eq and clahe (of the luma in YCrCb), jpeg (encoded with this quality
    and decoded), erode (3 x 3 ellipse), posterize (to four values), inverse, saltpepper (the value
    at `fraction` of all pixels, at random places), convert_to_hsv, convert_to_lab (floats).

    Args:
        param: the message. Its `prob` chooses among several (see AnnotatedData).

    Raises:
        NetError: saltpepper without a value, or counted in pixels.
    """

    def __init__(self, param: caffe_pb2.NoiseParameter) -> None:
        self.param = param
        if param.saltpepper and not param.saltpepper_param.value:
            raise NetError("saltpepper needs saltpepper_param { value }.")
        if param.saltpepper and param.saltpepper_param.type == _SALT.absolute:
            raise NetError(
                "saltpepper_param { type: absolute } is not supported: fraction is a share."
            )

    @property
    def is_random(self) -> bool:
        """Whether two passes over one image may differ."""
        return self.param.saltpepper

    def apply(self, image: Image, rng: np.random.Generator) -> Image:
        """The changed image, (C, H, W).

        Raises:
            DataError: pixels that are not bytes; a gray image that is asked for its colors.
        """
        if image.dtype != np.uint8:
            raise DataError("noise_param changes images of bytes, this one has floats.")
        for name in _IN_COLOR:
            if getattr(self.param, name) and len(image) != 3:
                raise DataError(
                    f"noise_param {{ {name} }} needs 3 channels, this image has {len(image)}."
                )
        pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
        pixels = self._recolored(pixels if len(image) > 1 else pixels[..., 0])
        if self.param.saltpepper:
            pixels = self._salted(pixels, rng)
        if self.param.convert_to_hsv:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2HSV)
        if self.param.convert_to_lab:
            pixels = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_BGR2Lab)
        return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)

    def _recolored(self, pixels: Image) -> Image:
        """The changes that are the same in each pass, of (H, W, C) or gray (H, W)."""
        param = self.param
        if param.decolorize:
            pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
        if param.gauss_blur:
            pixels = cv2.GaussianBlur(pixels, _BLUR_SIZE, _BLUR_SIGMA)
        if param.hist_eq:
            pixels = _change_luma(pixels, cv2.equalizeHist)
        if param.clahe:
            pixels = _change_luma(pixels, cv2.createCLAHE(clipLimit=_CLIP_LIMIT).apply)
        if param.jpeg > 0:
            _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(param.jpeg)])
            decoded = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
            assert decoded is not None  # it was encoded just now
            pixels = decoded
        if param.erode:
            pixels = cv2.erode(pixels, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
        if param.posterize:
            pixels = pixels // _LEVEL * _LEVEL + _LEVEL // 2
        return 255 - pixels if param.inverse else pixels

    def _salted(self, pixels: Image, rng: np.random.Generator) -> Image:
        salt = self.param.saltpepper_param
        channels = pixels.shape[2] if pixels.ndim == 3 else 1
        if len(salt.value) not in (1, channels):
            raise DataError(
                f"saltpepper_param: give 1 value or {channels}, one a channel, got"
                f" {len(salt.value)}."
            )
        height, width = pixels.shape[:2]
        count = int(np.float32(salt.fraction) * np.float32(width) * np.float32(height))
        value = np.resize(np.clip(salt.value, 0, 255).astype(np.uint8), channels)
        salted = pixels.copy()
        rows, columns = rng.integers(height, size=count), rng.integers(width, size=count)
        salted[rows, columns] = value if pixels.ndim == 3 else value[0]
        return salted


def _change_luma(pixels: Image, change: Callable[[Image], Image]) -> Image:
    """Change the brightness of an image alone: gray, or Y of YCrCb."""
    if pixels.ndim == 2:
        return change(pixels)
    parts = cv2.cvtColor(pixels, cv2.COLOR_BGR2YCrCb)
    parts[..., 0] = change(np.ascontiguousarray(parts[..., 0]))
    return cv2.cvtColor(parts, cv2.COLOR_YCrCb2BGR)
