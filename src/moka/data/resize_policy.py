"""The three ways in which SSD brings images to a size, and what they do to boxes."""

from __future__ import annotations

from math import floor

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.data.decode import Image
from moka.data.resizing import INTERPOLATIONS
from moka.errors import NetError
from moka.schema import caffe_pb2
from moka.types import Floats

_RESIZE = caffe_pb2.ResizeParameter
WARP, LARGE = _RESIZE.WARP, _RESIZE.FIT_LARGE_SIZE_AND_PAD
_BORDER = {
    _RESIZE.CONSTANT: cv2.BORDER_CONSTANT,
    _RESIZE.MIRRORED: cv2.BORDER_REFLECT_101,
    _RESIZE.REPEAT_NEAREST: cv2.BORDER_REPLICATE,
}


class ResizePolicy:
    """How a ResizeParameter resizes. WARP: to height x width. FIT_SMALL_SIZE: it keeps the shape of
    the image, which covers height x width. FIT_LARGE_SIZE_AND_PAD: it keeps the shape of the image,
    which fits into height x width, and pads the rest on both sides. Of several `interp_mode` one is
    drawn for each image.

    Args:
        param: the message. Its `prob` chooses among several (see AnnotatedData).

    Attributes:
        unit: with FIT_SMALL_SIZE and height_scale and width_scale, the pixels (height, width) that
            boxes are given as parts of, in place of the image's; else None.

    Raises:
        NetError: no size, or an option that is not supported.
    """

    def __init__(self, param: caffe_pb2.ResizeParameter) -> None:
        if not (param.height and param.width):
            raise NetError(
                f"resize_param needs height and width, got {param.height} and {param.width}."
            )
        for name in ("center_object", "max_angle"):
            if getattr(param, name):
                raise NetError(f"resize_param {{ {name} }} is not supported.")
        self.mode = param.resize_mode
        self.height, self.width = param.height, param.width
        self.interpolations = [
            INTERPOLATIONS[mode] for mode in param.interp_mode or [_RESIZE.LINEAR]
        ]
        self.border = _BORDER[param.pad_mode]
        self.pad_value = list(param.pad_value)
        scales = (param.height_scale, param.width_scale)
        self.unit = scales if self.mode == _RESIZE.FIT_SMALL_SIZE and all(scales) else None

    @property
    def is_random(self) -> bool:
        """Whether two passes over one image may differ."""
        return len(self.interpolations) > 1

    def image(self, image: Image, rng: np.random.Generator) -> Image:
        """A resized image (C, H, W)."""
        how = self.interpolations[rng.integers(len(self.interpolations)) if self.is_random else 0]
        if self.mode == WARP:
            return _resized(image, self.height, self.width, how)
        # in single precision, as in SSD: its rounding decides whether the last row is there
        width, height = np.float32(self.width), np.float32(self.height)
        aspect = np.float32(image.shape[2]) / np.float32(image.shape[1])
        if aspect > width / height if self.mode == LARGE else aspect < width / height:
            size = floor(width / aspect), self.width
        else:
            size = self.height, floor(aspect * height)
        resized = _resized(image, max(1, size[0]), max(1, size[1]), how)
        return self._padded(resized) if self.mode == LARGE else resized

    def boxes(self, boxes: Floats, height: int, width: int) -> Floats:
        """Turn boxes (G, 4), x1 y1 x2 y2 as fractions of an image, into those of the resized."""
        boxes = boxes.clip(0, 1)
        if self.mode == LARGE:
            relative = width / height / (self.width / self.height)
            padded = 1 if relative > 1 else 0  # the axis: y or x
            inner = min(relative, 1 / relative)  # how much of it the image takes
            boxes[:, padded::2] = boxes[:, padded::2] * inner + (1 - inner) / 2
        return boxes

    def _padded(self, image: Image) -> Image:
        channels, height, width = image.shape
        top, left = (self.height - height) // 2, (self.width - width) // 2
        sides = (top, self.height - height - top, left, self.width - width - left)
        value: NDArray[np.float64] = np.resize(self.pad_value or [0.0], channels)
        planes = [
            cv2.copyMakeBorder(plane, *sides, self.border, value=float(v))
            for plane, v in zip(image, value, strict=True)
        ]
        return np.stack(planes)


def _resized(image: Image, height: int, width: int, interpolation: int) -> Image:
    pixels = cv2.resize(
        np.ascontiguousarray(image.transpose(1, 2, 0)), (width, height), interpolation=interpolation
    )
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
