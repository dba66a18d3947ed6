"""Augmentation: random changes of the images that a net is trained on, beyond crop and mirror.

Part of the transformation (`transform.py`): random choices are drawn first; applying them is a pure
function. Sources: the random area and aspect of Szegedy et al., "Going deeper with convolutions"
(2015); the short side at a random length of Simonyan and Zisserman, "Very deep convolutional
networks" (2015); the color changes of Howard, "Some improvements on deep convolutional neural
network based image classification" (2013).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from moka.data.decode import Image, short_side_size
from moka.data.resizing import ImagePart, resizing_of
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2
from moka.types import HeightWidth

_LUMA = np.array([0.114, 0.587, 0.299], np.float32)  # of B, G, R (ITU-R BT.601)
CV2_CHANNELS = 4  # the most that it resizes or rotates at once
_TRIES = 10  # for a random area that fits into the image


class Change(NamedTuple):
    """The random choices for one image.

    Attributes:
        box: the part to cut out; None: all of it.
        size: (height, width) to resize to; None: as it is.
        interpolation: OpenCV's number of how; None: by averaging if it shrinks, else bilinearly.
        angle: to rotate by around the center, in degrees, counter-clockwise.
        brightness, contrast, saturation: factors.
        hue: to turn by, in degrees.
    """

    box: ImagePart | None = None
    size: HeightWidth | None = None
    interpolation: int | None = None
    angle: float = 0.0
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0


class Augment:
    """The augmentation that a TransformationParameter asks for.

    Args:
        param: the message.
        training: in testing only `resize_short_side` and the resizing of forks apply.

    Raises:
        NetError: fields that contradict each other, or lie outside of their range.
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, *, training: bool) -> None:
        _check(param)
        self.crop = param.crop_size
        self.resizing = resizing_of(param, training=training)
        if self.resizing and (param.resize_short_side or param.random_area_min):
            raise NetError(
                "resize_short_side and random_area_min do not go with the resizing of forks."
            )
        self.short_side = param.resize_short_side
        self.short_side_max = param.resize_short_side_max if training else 0
        self.area = (param.random_area_min, param.random_area_max)
        self.aspect_max = param.random_aspect_max
        self.picks_area = training and param.random_area_min > 0
        self.rotation = param.random_rotation if training else 0.0
        strengths = param.random_brightness, param.random_contrast, param.random_saturation
        self.strengths = strengths if training else (0.0, 0.0, 0.0)
        self.hue = param.random_hue if training else 0.0

    @property
    def changes_geometry(self) -> bool:
        return bool(self.resizing or self.short_side or self.picks_area or self.rotation)

    @property
    def changes_color(self) -> bool:
        return any(self.strengths) or bool(self.hue)

    @property
    def is_random(self) -> bool:
        """Whether two passes over the same image may differ."""
        geometry = self.picks_area or self.short_side_max or self.rotation
        return bool(geometry or self.changes_color or (self.resizing and self.resizing.is_random))

    def least_shape(self, image: tuple[int, ...]) -> tuple[int, ...]:
        """The smallest shape (C, H, W) that an image of this shape may have before the crop.

        Raises:
            DataError: saturation or hue of an image that has no colors.
        """
        c, h, w = image
        if (self.strengths[2] or self.hue) and c != 3:
            raise DataError(f"saturation and hue need 3 channels, the image has {c}.")
        if self.resizing:
            return (c, *self.resizing.least(h, w))
        if self.picks_area:
            return (c, self.crop, self.crop)
        return (c, *short_side_size(h, w, self.short_side)) if self.short_side else image

    def draw(self, image: tuple[int, ...], rng: np.random.Generator) -> Change:
        """Choose what happens to an image of shape (C, H, W)."""
        _, h, w = image
        box, size, interpolation = None, None, None
        if self.resizing:
            size, interpolation, box = self.resizing.draw(h, w, rng)
        elif self.picks_area:
            box, size = self._draw_area(h, w, rng), (self.crop, self.crop)
        elif self.short_side:
            side = self.short_side
            if self.short_side_max:
                side = int(rng.integers(side, self.short_side_max + 1))
            size = short_side_size(h, w, side)
        angle = rng.uniform(-self.rotation, self.rotation) if self.rotation else 0.0
        brightness, contrast, saturation = (
            rng.uniform(max(0.0, 1 - s), 1 + s) if s else 1.0 for s in self.strengths
        )
        hue = rng.uniform(-self.hue, self.hue) if self.hue else 0.0
        return Change(box, size, interpolation, angle, brightness, contrast, saturation, hue)

    def _draw_area(self, h: int, w: int, rng: np.random.Generator) -> ImagePart:
        stretch = math.log(self.aspect_max)
        for _ in range(_TRIES):
            area = rng.uniform(*self.area) * h * w
            aspect = math.exp(rng.uniform(-stretch, stretch))  # width / height
            height, width = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < height <= h and 0 < width <= w:
                spot = rng.integers(0, (h - height + 1, w - width + 1))
                return ImagePart(int(spot[0]), int(spot[1]), height, width)
        height = min(h, round(w * self.aspect_max))  # all of it, but for what is too long
        width = min(w, round(h * self.aspect_max))
        return ImagePart((h - height) // 2, (w - width) // 2, height, width)


def reshape_image(image: Image, change: Change) -> Image:
    """Cut, resize and rotate an image (C, H, W). Where a rotated image has no pixels, it is
    mirrored at its border."""
    if len(image) > CV2_CHANNELS:
        return np.concatenate([reshape_image(plane[None], change) for plane in image])
    pixels = image.transpose(1, 2, 0)
    if change.box is not None:
        top, left, height, width = change.box
        pixels = pixels[top : top + height, left : left + width]
    if change.size is not None and change.size != pixels.shape[:2]:
        pixels = _resize(np.ascontiguousarray(pixels), change.size, change.interpolation)
    if change.angle:
        pixels = _rotate(np.ascontiguousarray(pixels), change.angle)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _resize(pixels: Image, size: HeightWidth, how: int | None) -> Image:
    """Resize (H, W, C) to `size`. See `Change.interpolation`."""
    if how is None:
        shrinks = size[0] <= pixels.shape[0] and size[1] <= pixels.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, size[::-1], interpolation=how)


def _rotate(pixels: Image, angle: float) -> Image:
    h, w = pixels.shape[:2]
    turn = cv2.getRotationMatrix2D(((w - 1) / 2, (h - 1) / 2), angle, 1.0)
    border = cv2.BORDER_REFLECT_101
    return cv2.warpAffine(pixels, turn, (w, h), flags=cv2.INTER_LINEAR, borderMode=border)


def recolor(image: Image, change: Change) -> Image:
    """Change brightness, contrast, saturation and hue of an image (C, H, W), in this order.

    Contrast is the distance from the image's mean gray, saturation that from each pixel's gray.
    Bytes are rounded and stay between 0 and 255.
    """
    x = image.astype(np.float32)
    x *= change.brightness
    if change.contrast != 1:
        gray = _gray(x).mean()
        x = (x - gray) * change.contrast + gray
    if change.saturation != 1:
        grays = _gray(x)
        x = (x - grays) * change.saturation + grays
    if change.hue:
        x = _turn_hue(x, change.hue)
    if image.dtype != np.uint8:
        return x
    return np.rint(x.clip(0, 255)).astype(np.uint8)


def _gray(x: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(x) == 3:
        return np.tensordot(_LUMA, x, axes=1).astype(np.float32)
    return x.mean(0, dtype=np.float32)


def _turn_hue(x: NDArray[np.float32], degrees: float) -> NDArray[np.float32]:
    hsv = cv2.cvtColor(np.ascontiguousarray(x.transpose(1, 2, 0)), cv2.COLOR_BGR2HSV)
    hsv[..., 0] = (hsv[..., 0] + degrees) % 360
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR).astype(np.float32, copy=False).transpose(2, 0, 1)


def _check(param: caffe_pb2.TransformationParameter) -> None:
    if param.random_area_min and not param.crop_size:
        raise NetError("random_area_min needs crop_size, the size of what comes out.")
    if not 0 <= param.random_area_min <= param.random_area_max <= 1:
        raise NetError(
            "0 <= random_area_min <= random_area_max <= 1 must hold, got"
            f" {param.random_area_min:g} and {param.random_area_max:g}."
        )
    if param.random_aspect_max < 1:
        raise NetError(f"random_aspect_max is 1 or more, got {param.random_aspect_max:g}.")
    if param.resize_short_side_max:
        if not 0 < param.resize_short_side <= param.resize_short_side_max:
            raise NetError(
                "resize_short_side_max needs resize_short_side, from 1 to"
                f" {param.resize_short_side_max}, got {param.resize_short_side}."
            )
        if not param.crop_size:
            raise NetError("resize_short_side_max needs crop_size: the images differ in size.")
    for name in ("rotation", "brightness", "contrast", "saturation", "hue"):
        value = getattr(param, f"random_{name}")
        if not 0 <= value < math.inf:
            raise NetError(f"random_{name} is 0 or more, got {value:g}.")
