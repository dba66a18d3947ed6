"""The ways in which forks of Caffe resize the images of Data and ImageData, most of them by chance.

As in these forks, they apply in training and in testing alike, but for those of yjxiong.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from math import floor, isfinite, sqrt
from typing import NamedTuple

import cv2
import numpy as np

from moka.errors import NetError
from moka.schema import caffe_pb2
from moka.types import HeightWidth

_RESIZE = caffe_pb2.ResizeParameter
INTERPOLATIONS = {
    _RESIZE.LINEAR: cv2.INTER_LINEAR,
    _RESIZE.AREA: cv2.INTER_AREA,
    _RESIZE.NEAREST: cv2.INTER_NEAREST,
    _RESIZE.CUBIC: cv2.INTER_CUBIC,
    _RESIZE.LANCZOS4: cv2.INTER_LANCZOS4,
}
_TRANSFORM = caffe_pb2.TransformationParameter
_OPENCV = {
    _TRANSFORM.INTER_NEAREST: cv2.INTER_NEAREST,
    _TRANSFORM.INTER_LINEAR: cv2.INTER_LINEAR,
    _TRANSFORM.INTER_CUBIC: cv2.INTER_CUBIC,
    _TRANSFORM.INTER_AREA: cv2.INTER_AREA,
}
_STRETCHES = ("rand_resize_ratio", "vertical_stretch", "horizontal_stretch")
NVCAFFES = ("img_rand_resize", *_STRETCHES)


class ImagePart(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


class Resized(NamedTuple):
    """What was drawn for one image.

    Attributes:
        size: (height, width) to resize to.
        interpolation: OpenCV's number of it; None: as the size asks for.
        box: the part to cut out first; None: all of it.
    """

    size: HeightWidth
    interpolation: int | None
    box: ImagePart | None = None


class Resizing(ABC):
    """A way to resize images. `is_random`: whether images of one size may get different sizes."""

    is_random = True

    @abstractmethod
    def draw(self, height: int, width: int, rng: np.random.Generator) -> Resized:
        """Choose what happens to an image of this size."""

    @abstractmethod
    def least(self, height: int, width: int) -> HeightWidth:
        """The smallest size that an image of this size may get."""


def resizing_of(param: caffe_pb2.TransformationParameter, *, training: bool) -> Resizing | None:
    """How a TransformationParameter resizes by the fields of forks; None: not at all.

    Raises:
        NetError: fields that exclude each other, or lie outside of their range.
    """
    nvcaffe = any(
        param.HasField(f"{name}_{end}") for name in NVCAFFES for end in ("lower", "upper")
    )
    intel = param.HasField("random_resize_param") or param.HasField("random_aspect_ratio_param")
    yjxiong = param.multi_scale or param.fix_crop
    if nvcaffe + intel + yjxiong + bool(param.resize_param) > 1:
        raise NetError(
            "give the resizing of one fork: resize_param (SSD), random_resize_param and"
            " random_aspect_ratio_param (Intel Caffe), img_rand_resize_lower and the like"
            " (NVCaffe), or multi_scale and fix_crop (yjxiong)."
        )
    made: Resizing | None = None
    if nvcaffe:
        made = _RandomStretch(param)
    elif param.HasField("random_aspect_ratio_param"):
        made = _RandomPart(param)
    elif intel:
        made = _RandomShortSide(param.random_resize_param)
    elif param.resize_param:
        made = _ToSize(param)
    elif yjxiong:
        made = _ScaledCrop(param) if training else None
    if made and made.is_random and not param.crop_size:
        raise NetError("resizing by chance needs crop_size: the images differ in size.")
    return made


class _Interpolation:
    """One of the `interp_mode` of a ResizeParameter, drawn for each image."""

    def __init__(self, param: caffe_pb2.ResizeParameter) -> None:
        self.known = [INTERPOLATIONS[mode] for mode in param.interp_mode or [_RESIZE.LINEAR]]

    def draw(self, rng: np.random.Generator) -> int:
        return self.known[int(rng.integers(len(self.known))) if len(self.known) > 1 else 0]


class _ToSize(Resizing):
    """SSD: to height x width, or so that the image covers them in its own shape."""

    def __init__(self, param: caffe_pb2.TransformationParameter) -> None:
        (one, *more) = param.resize_param
        if more:
            raise NetError("one resize_param at most, but for AnnotatedData.")
        if not (one.height and one.width):
            raise NetError(
                f"resize_param needs height and width, got {one.height} and {one.width}."
            )
        odd = [name for name in ("center_object", "max_angle") if getattr(one, name)]
        if one.resize_mode == _RESIZE.FIT_LARGE_SIZE_AND_PAD:
            odd.append("resize_mode: FIT_LARGE_SIZE_AND_PAD")
        if odd:
            raise NetError(f"resize_param {{ {odd[0]} }} is not supported in this layer.")
        self.covers = one.resize_mode == _RESIZE.FIT_SMALL_SIZE
        self.size = (one.height, one.width)
        self.interpolation = _Interpolation(one)
        self.is_random = False

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Resized:
        return Resized(self.least(height, width), self.interpolation.draw(rng))

    def least(self, height: int, width: int) -> HeightWidth:
        high, wide = self.size
        if not self.covers:
            return self.size
        aspect = width / height
        if aspect < wide / high:
            return floor(wide / aspect), wide
        return high, floor(aspect * high)


class _RandomShortSide(Resizing):
    """Intel Caffe: the shorter side gets a random length."""

    def __init__(self, param: caffe_pb2.RandomResizeParameter) -> None:
        self.min, self.max = param.min_size, param.max_size
        self.interpolation = _Interpolation(param.resize_param)
        if self.max and self.min > self.max:
            raise NetError(
                f"random_resize_param: min_size ({self.min}) is larger than max_size ({self.max})."
            )
        self.is_random = not self.min or self.min != self.max

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Resized:
        low, high = self.min or min(height, width), self.max or max(height, width)
        side = int(rng.integers(low, max(low, high) + 1)) if self.is_random else low
        return Resized(_short_side(height, width, side), self.interpolation.draw(rng))

    def least(self, height: int, width: int) -> HeightWidth:
        return _short_side(height, width, self.min or min(height, width))


class _RandomPart(Resizing):
    """Intel Caffe: a random part of a random shape is resized to crop_size. If random_resize_param
    is given, too, it changes nothing: the part is drawn as a share of the image."""

    def __init__(self, param: caffe_pb2.TransformationParameter) -> None:
        one = param.random_aspect_ratio_param
        self.area = (one.min_area_ratio, one.max_area_ratio)
        self.change, self.tries = one.aspect_ratio_change, one.max_attempt
        self.crop = param.crop_size
        self.interpolation = _Interpolation(one.resize_param)
        if not 0 < self.area[0] <= self.area[1]:
            raise NetError(
                "random_aspect_ratio_param: 0 < min_area_ratio <= max_area_ratio must hold, got"
                f" {self.area[0]:g} and {self.area[1]:g}."
            )
        if not 0 < self.change <= 1:
            raise NetError(
                f"random_aspect_ratio_param: aspect_ratio_change is above 0 and at most 1, got"
                f" {self.change:g}."
            )

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Resized:
        how = self.interpolation.draw(rng)
        for _ in range(self.tries):
            side = sqrt(rng.uniform(*self.area) * height * width)
            stretch = rng.uniform(self.change, 1 / self.change)
            sides = int(side * stretch), int(side / stretch)
            high, wide = sides[::-1] if rng.random() < 0.5 else sides
            if 0 < high <= height and 0 < wide <= width:
                top, left = rng.integers(0, (height - high + 1, width - wide + 1)).tolist()
                return Resized((self.crop, self.crop), how, ImagePart(top, left, high, wide))
        return Resized(_short_side(height, width, self.crop), how)

    def least(self, height: int, width: int) -> HeightWidth:
        return self.crop, self.crop


class _RandomStretch(Resizing):
    """NVCaffe: the shorter side gets a random length from img_rand_resize_lower to _upper; with
    rand_resize_ratio_ the longer side a random multiple of it, from 1; then vertical_stretch_ and
    horizontal_stretch_ multiply the sides. Neither is shorter than crop_size, nor, without
    allow_upscale, longer than it was."""

    def __init__(self, param: caffe_pb2.TransformationParameter) -> None:
        self.crop, self.upscales = param.crop_size, param.allow_upscale
        self.shorter = param.img_rand_resize_lower, param.img_rand_resize_upper
        self.down = _OPENCV[param.interpolation_algo_down]
        self.up = _OPENCV[param.interpolation_algo_up]
        ranges = [
            (getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper"))
            for name in _STRETCHES
        ]
        for name, (low, high) in zip(NVCAFFES, [self.shorter, *ranges], strict=True):
            if not isfinite(high - low):
                raise NetError(f"{name}_lower and {name}_upper must be finite.")
            if high < low:
                raise NetError(f"{name}_upper ({high:g}) is less than {name}_lower ({low:g}).")
        ratio, *self.stretches = ranges
        self.ratio = ratio if ratio[0] >= 1 and ratio[1] > 1 else None
        drawn = [self.shorter, *self.stretches, *([self.ratio] if self.ratio else [])]
        self.is_random = bool(self.ratio) or any(low != high for low, high in drawn)

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Resized:
        low, high = self.shorter
        side = int(rng.integers(low, high + 1)) if low and high else min(height, width)
        ratio = rng.uniform(*self.ratio) if self.ratio else None
        is_wide = width > height if width != height else rng.random() < 0.5
        size = self._size(
            (height, width), side, ratio, [rng.uniform(*each) for each in self.stretches], is_wide
        )
        shrinks = size[0] <= height and size[1] <= width
        return Resized(size, self.down if shrinks else self.up)

    def least(self, height: int, width: int) -> HeightWidth:
        side = self.shorter[0] if all(self.shorter) else min(height, width)
        ratio = self.ratio[0] if self.ratio else None
        least = [low for low, _ in self.stretches]
        return self._size((height, width), side, ratio, least, width > height)

    def _size(
        self,
        image: HeightWidth,
        side: int,
        ratio: float | None,
        stretches: list[float],
        is_wide: bool,
    ) -> HeightWidth:
        sides = [length * side / min(image) for length in image]
        if ratio is not None:
            sides = [side, side * ratio] if is_wide else [side * ratio, side]
        sides = [a * (b if b > 0 else 1) for a, b in zip(sides, stretches, strict=True)]
        high, wide = (max(self.crop, floor(each + 0.5)) for each in sides)
        return (high, wide) if self.upscales else (min(high, image[0]), min(wide, image[1]))


class _ScaledCrop(Resizing):
    """yjxiong, in training: with multi_scale the crop is one of several parts of the shorter side
    high and wide, and is resized to crop_size. With fix_crop it lies in a corner or in the center,
    with more_fix_crop also in the middle of a side or halfway to a corner; else anywhere."""

    def __init__(self, param: caffe_pb2.TransformationParameter) -> None:
        self.crop = param.crop_size
        self.ratios = list(param.scale_ratios) or [1, 0.875, 0.75, 0.66]
        if not all(0 < ratio <= 1 for ratio in self.ratios):
            raise NetError(
                "scale_ratios are above 0 and at most 1, got"
                f" {', '.join(f'{ratio:g}' for ratio in self.ratios)}."
            )
        self.scales, self.max_distort = param.multi_scale, param.max_distort
        self.quarters: list[HeightWidth] = []
        if param.fix_crop:
            self.quarters = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
            if param.more_fix_crop:
                self.quarters += [(0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)]

    def draw(self, height: int, width: int, rng: np.random.Generator) -> Resized:
        sizes = self._sizes(height, width)
        high, wide = sizes[int(rng.integers(len(sizes)))]
        room = height - high, width - wide
        if self.quarters:
            down, right = self.quarters[int(rng.integers(len(self.quarters)))]
            top, left = room[0] // 4 * down, room[1] // 4 * right
        else:
            top, left = rng.integers(0, (room[0] + 1, room[1] + 1)).tolist()
        return Resized((self.crop, self.crop), cv2.INTER_LINEAR, ImagePart(top, left, high, wide))

    def least(self, height: int, width: int) -> HeightWidth:
        """The crop; an image that is smaller stays as it is, so that it is refused."""
        return min(self.crop, height), min(self.crop, width)

    def _sizes(self, height: int, width: int) -> list[HeightWidth]:
        if not self.scales:
            return [(self.crop, self.crop)]
        sides = [int(min(height, width) * ratio) for ratio in self.ratios]
        sides = [self.crop if abs(side - self.crop) < 3 else side for side in sides]
        return [
            (high, wide)
            for i, high in enumerate(sides)
            for j, wide in enumerate(sides)
            if abs(i - j) <= self.max_distort
        ]


def _short_side(height: int, width: int, side: int) -> HeightWidth:
    """Intel Caffe's size whose shorter side is so long; the other is rounded down."""
    if height < width:
        return side, int(width / height * side)
    return int(height / width * side), side
