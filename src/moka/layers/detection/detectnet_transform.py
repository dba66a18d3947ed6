"""NVIDIA's DetectNet: images and their boxes, changed at random, and the truth that they learn."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, cos, floor, radians, sin
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moka.data.place import draw_seed
from moka.errors import DataError, NetError
from moka.layers.base import Layer
from moka.layers.detection.coverage import CoverageOptions
from moka.layers.options import option
from moka.layers.registry import layer
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import Array, Floats, Shape

WHITE = np.float32(255)
WIDTH = 16  # numbers of a box
CHANGES = "detectnet_augmentation_param"


class Change(NamedTuple):
    """What happens to an image and its boxes.

    Attributes:
        size: width and height that the image is resized to.
        flip: whether left and right change places, before resizing.
        angle: to turn by, in degrees, clockwise, after resizing.
        offset: x and y of the part that is cut out at last; outside of the image is 0.
        hue: to turn colors by, in degrees.
        saturation: factor of the colors' saturation.
    """

    size: tuple[int, int]
    flip: bool = False
    angle: float = 0.0
    offset: tuple[int, int] = (0, 0)
    hue: float = 0.0
    saturation: float = 1.0


@layer("DetectNetTransformation", bottoms=2, tops=2, differentiable=False, fork="NVCaffe")
class DetectNetTransformation(CoverageOptions, Layer):
    """Images and boxes as DetectNet trains on them.

    In training each change happens with its probability, in this order: the hue turns by up to
    `hue_rotation` degrees, the saturation falls by up to `desaturation_max`, the mean is
    subtracted, left and right change places (`flip_prob`), the image is resized by a factor from
    scale_min to scale_max, turned by up to `max_rotate_degree`, and a part of image_size_x by
    image_size_y is cut out: at random, up to half of shift_x and shift_y outside of the image, or
    in the middle. In testing the image is resized to this size.

    The boxes follow. Of each, a part around its center (scale_cvg times its size, with GRIDBOX_MIN
    at least min_cvg_len and at most the box, with GRIDBOX_MAX at most max_cvg_len) is marked in the
    cells of `stride` pixels that it touches.

    Bottoms: images (N, 3, H, W) of 0 to 255; labels, for each image at first the number of boxes
    and the length of one, 16, on a row of its own, then a row for each: x, y, width, height, -,
    class and ten others. Tops: images (N, 3, image_size_y, image_size_x); maps (N, 8 + classes,
    image_size_y / stride, image_size_x / stride): whether there is a box, its corners from the
    cell's (4), 1 / width and 1 / height, stride^2 / (area of the part that is marked; at least 1
    without `obj_norm`), and one map for each `dst` of object_class, the class of boxes `src`.

    Messages: detectnet_groundtruth_param, detectnet_augmentation_param, and mean_value or mean_file
    of transform_param. No gradient.

    Errors: images that do not have three channels, another number of labels, more boxes than rows.
    """

    mean_file: str | None = option(of="transform_param")
    mean_value: tuple[float, ...] = option(of="transform_param")
    crop_prob: float = option(of=CHANGES)
    shift_x: int = option(of=CHANGES)
    shift_y: int = option(of=CHANGES)
    scale_prob: float = option(of=CHANGES)
    scale_min: float = option(of=CHANGES)
    scale_max: float = option(of=CHANGES)
    flip_prob: float = option(of=CHANGES)
    rotation_prob: float = option(of=CHANGES)
    max_rotate_degree: float = option(of=CHANGES)
    hue_rotation_prob: float = option(of=CHANGES)
    hue_rotation: float = option(of=CHANGES)
    desaturation_prob: float = option(of=CHANGES)
    desaturation_max: float = option(of=CHANGES)

    def setup(self, images: Shape, labels: Shape) -> None:
        if len(self.mean_value) not in (0, 1, 3):
            raise NetError(f"takes one mean_value or three, got {len(self.mean_value)}.")
        self.mean: Floats = np.array(self.mean_value or (0,), np.float32)
        if self.mean_file:
            stored = to_array(read_binary(self.mean_file, caffe_pb2.BlobProto))
            self.mean = np.ascontiguousarray(stored.reshape(stored.shape[-3:]).transpose(1, 2, 0))

    def top_shapes(self, images: Shape, labels: Shape) -> list[Shape]:
        if len(images) != 4 or images[1] != 3:
            raise NetError(f"takes images (N, 3, H, W), got a bottom of shape {images}.")
        if labels[:1] != images[:1]:
            raise NetError(f"takes a label for each of {images[0]} images, got shape {labels}.")
        size = (self.image_size_y, self.image_size_x)
        return [(images[0], 3, *size), (images[0], *self.map_shape())]

    def forward(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        rng = np.random.default_rng(draw_seed())
        pixels = images.detach().float().permute(0, 2, 3, 1).cpu().numpy()
        results, maps = [], []
        for image, label in zip(pixels, labels.detach().float().cpu().numpy(), strict=True):
            size = (image.shape[1], image.shape[0])
            change = self._draw(size, rng.random) if self.training else Change(self._out_size())
            results.append(torch.from_numpy(self._image(image, change)))
            maps.append(torch.from_numpy(self.maps(move_boxes(boxes_of(label), size, change))))
        if not results:
            return [images.new_zeros(s) for s in self.top_shapes(images.shape, labels.shape)]
        return [torch.stack(results).permute(0, 3, 1, 2).to(images), torch.stack(maps).to(images)]

    def _out_size(self) -> tuple[int, int]:
        return self.image_size_x, self.image_size_y

    def _draw(self, size: tuple[int, int], draw: Callable[[], float]) -> Change:
        """Choose what happens to an image, from numbers in [0, 1)."""
        hue = angle = 0.0
        saturation = 1.0
        if draw() <= self.hue_rotation_prob:
            hue = min(max((2 * draw() - 1) * self.hue_rotation, -180.0), 180.0)
        if draw() <= self.desaturation_prob:
            saturation = 1 - draw() * self.desaturation_max
        flip = draw() <= self.flip_prob
        if draw() <= self.scale_prob:
            factor = self.scale_min + (self.scale_max - self.scale_min) * draw()
            size = (max(_round(size[0] * factor), 1), max(_round(size[1] * factor), 1))
        if draw() <= self.rotation_prob:
            angle = (2 * draw() - 1) * self.max_rotate_degree
        spots, shifts = (0.5, 0.5), (0, 0)
        if draw() <= self.crop_prob:
            spots, shifts = (draw(), draw()), (self.shift_x, self.shift_y)
        x, y = (
            _round(spot * (whole - part + shift) - shift // 2)
            for spot, shift, whole, part in zip(
                spots, shifts, turned_size(size, angle), self._out_size(), strict=True
            )
        )
        return Change(size, flip, angle, (x, y), hue, saturation)

    def _image(self, image: Array, change: Change) -> Array:
        size = (image.shape[1], image.shape[0])
        mean: Array = self.mean
        if mean.ndim > 1 and mean.shape[:2] != image.shape[:2]:
            mean = cv2.resize(mean, size, interpolation=cv2.INTER_CUBIC)
        if change.hue or change.saturation != 1:
            colors: Array = cv2.cvtColor(image / WHITE, cv2.COLOR_BGR2HSV)
            colors[..., 0] += change.hue
            colors[..., 1] *= change.saturation
            image = cv2.cvtColor(colors, cv2.COLOR_HSV2BGR) * WHITE
        image = np.ascontiguousarray(image - mean)
        if change.flip:
            image = np.ascontiguousarray(image[:, ::-1])
        if change.size != size:
            image = cv2.resize(image, change.size, interpolation=cv2.INTER_CUBIC)
        if change.angle:
            whole = turned_size(change.size, change.angle)
            image = cv2.warpAffine(
                image,
                turning(change.size, change.angle),
                whole,
                dst=np.zeros((*whole[::-1], 3), np.float32),
                flags=cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_TRANSPARENT,
            )
        return _cut(image, change.offset, self._out_size())


def boxes_of(label: Floats) -> Floats:
    """The boxes (K, 16) in an image's label.

    Raises:
        DataError: the label is not one of DetectNet's.
    """
    numbers = label.ravel()
    count = int(numbers[0]) if len(numbers) > 1 else 0
    if count <= 0:
        return np.zeros((0, WIDTH), np.float32)
    if int(numbers[1]) != WIDTH or len(numbers) < (count + 1) * WIDTH:
        raise DataError(
            f"a label of DetectNet starts with the number of boxes and their length, {WIDTH}; this"
            f" one of {len(numbers)} numbers starts with {numbers[0]:g} and {numbers[1]:g}."
        )
    return numbers[WIDTH : (count + 1) * WIDTH].reshape(count, WIDTH)


def move_boxes(boxes: Floats, size: tuple[int, int], change: Change) -> Floats:
    """Boxes where they lie after a change of an image of this size (width, height)."""
    moved: Array = boxes.copy()
    first, lengths = moved[:, :2], moved[:, 2:4]
    if change.flip:
        first[:, 0] = size[0] - first[:, 0] - lengths[:, 0] - 1
    factors = np.array(change.size, np.float32) / np.array(size, np.float32)
    first *= factors
    lengths *= factors
    if change.angle:
        matrix = turning(change.size, change.angle)
        first[...] = (first + lengths / 2) @ matrix[:, :2].T + matrix[:, 2] - lengths / 2
    first -= np.array(change.offset, np.float32)
    return moved


def turned_size(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """Width and height of the image that holds a turned one."""
    if not angle:
        return size
    spans = _spans((size[0] // 2, size[1] // 2), size, angle)
    (left, right), (top, bottom) = spans
    return right - left + 1, bottom - top + 1


def turning(size: tuple[int, int], angle: float) -> NDArray[np.float64]:
    """The matrix (2, 3) that turns an image around its center and shifts it to be seen whole."""
    center = np.array(size) / 2
    (left, _), (top, _) = _spans((center[0], center[1]), size, angle)
    turn = radians(angle)
    matrix = np.array([[cos(turn), -sin(turn)], [sin(turn), cos(turn)]])
    shift = center - (left, top) - matrix @ center
    return np.hstack([matrix, shift[:, None]])


def _spans(
    center: tuple[float, float], size: tuple[int, int], angle: float
) -> list[tuple[int, int]]:
    """From where to where a turned image reaches along x and y."""
    c, s = abs(cos(radians(angle))) / 2, abs(sin(radians(angle))) / 2
    reach = (c * size[0] + s * size[1], s * size[0] + c * size[1])
    return [(floor(m - r), ceil(m + r)) for m, r in zip(center, reach, strict=True)]


def _cut(image: Array, offset: tuple[int, int], size: tuple[int, int]) -> Array:
    """A part of an image, 0 where it lies outside."""
    out = np.zeros((size[1], size[0], 3), np.float32)
    source, target = zip(
        *(
            (slice(max(o, 0), max(o + length, 0)), slice(max(-o, 0), None))
            for o, length in ((offset[1], size[1]), (offset[0], size[0]))
        ),
        strict=True,
    )
    part = image[source]
    room = out[target]
    room[: part.shape[0], : part.shape[1]] = part[: room.shape[0], : room.shape[1]]
    return out


def _round(x: float) -> int:
    """Halves away from zero, as C rounds."""
    return int(x + 0.5) if x >= 0 else -int(0.5 - x)
