"""The transformation of images: augment, crop, mirror, subtract the mean, scale.

Random choices are drawn first (`draw`); the rest is a pure function of the images and these
choices, so tests can check crops and mirrors exactly. It has two halves: `pixels` moves bytes, and
the arithmetic turns them into floats, (pixel - mean) * scale. The arithmetic runs on the host
(`apply`), or on the net's device (`normalize_tensor`), so that only bytes are copied there. As in
Caffe, the mean image is cropped at the same place as the image. Batches lie channels-last in
memory, as the engines run them.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple, Self, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moka.data.augment import CV2_CHANNELS, Augment, Change, recolor, reshape_image
from moka.data.decode import Image
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import Array, HeightWidth, Shape

T = TypeVar("T", bound=np.generic)

_BLOCK = 1 << 16  # numbers that stay in a core's cache from one step of the arithmetic to the next


class Draw(NamedTuple):
    """The random choices for one batch: for each image a crop position, a mirror flag, and what
    augmentation does to it, if anything."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    changes: Sequence[Change] = ()

    def part(self, images: slice) -> Self:
        """The choices for some of the images."""
        return self._replace(
            top=self.top[images],
            left=self.left[images],
            mirror=self.mirror[images],
            changes=self.changes[images],
        )


def read_mean_image(file: str) -> NDArray[np.float32]:
    """The image (C, H, W) of a mean file, a BlobProto.

    Raises:
        DataError: the file is missing, or does not hold one image.
        SchemaError: it cannot be read.
    """
    mean = to_array(read_binary(file, caffe_pb2.BlobProto))
    if mean.ndim != 4 or mean.shape[0] != 1:
        raise DataError(
            f"a mean file holds one image (1, channels, height, width), found shape {mean.shape}.",
            file=file,
        )
    return mean[0]


class Transform:
    """The transformation of images that a TransformationParameter describes.

    Args:
        param: the message; its fields and the mean file are read once.
        training: whether crops are random, unless center_crop is set; in testing they are central.

    Raises:
        NetError: fields that exclude each other or are out of range.
        SchemaError: the mean file is missing or broken.
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, *, training: bool) -> None:
        if param.mean_file and param.mean_value:
            raise NetError("Cannot specify mean_file and mean_value at the same time.")
        if param.force_color and param.force_gray:
            raise NetError("cannot set both 'force_color' and 'force_gray'.")
        self.augment = Augment(param, training=training)
        self.scale = np.float32(param.scale)
        self.mirror = param.mirror
        self.crop = crop_of(param)
        self.crops_by_chance = training and bool(self.crop) and not param.center_crop
        self.turns_flow = param.is_flow
        self.force_color = param.force_color
        self.force_gray = param.force_gray
        self.mean_file = param.mean_file
        self.training = training
        self.mean_values = np.array(param.mean_value, np.float32).reshape(-1, 1, 1)
        self.mean_image = read_mean_image(param.mean_file) if param.mean_file else None
        self._mean_rows = None if self.mean_image is None else _rows_both_ways(self.mean_image)
        self._mean_on: dict[torch.device, Tensor] = {}

    @property
    def is_random(self) -> bool:
        """Whether two passes over the same images may differ."""
        return self.mirror or self.crops_by_chance or self.augment.is_random

    def out_shape(self, image: Shape) -> Shape:
        """Shape of a transformed image of shape (C, H, W).

        Raises:
            DataError: the crop is larger than the image, or the mean does not fit it.
        """
        c, h, w = self.augment.least_shape(image)
        if self.crop and (self.crop[0] > h or self.crop[1] > w):
            high, wide = self.crop
            asked = f"crop_size {high}" if high == wide else f"the crop, {high} x {wide},"
            raise DataError(
                f"{asked} is larger than the image ({h} x {w}).",
                advice="Lower crop_size, or enlarge the images (resize_short_side).",
            )
        if self.mean_image is not None and self.mean_image.shape != (c, h, w):
            raise DataError(
                f"the mean in {self.mean_file} is for images of {self.mean_image.shape}, this one"
                f" is {(c, h, w)}.",
                advice="Make the mean from these images (compute_image_mean), or give mean_value"
                " instead, as for images of many sizes.",
            )
        if len(self.mean_values) not in (0, 1, c):
            raise DataError(
                "Specify either 1 mean_value or as many as channels: "
                f"{len(self.mean_values)} values for {c} channels."
            )
        return (c, *(self.crop or (h, w)))

    def draw(self, shapes: Sequence[Shape], rng: np.random.Generator) -> Draw:
        """Choose crop positions, mirrors and changes for images of these shapes (C, H, W)."""
        n = len(shapes)
        top = np.zeros(n, np.int64)
        left = np.zeros(n, np.int64)
        changes: list[Change] = []
        if self.augment.changes_geometry or self.augment.changes_color:
            changes = [self.augment.draw(shape, rng) for shape in shapes]
        if self.crop:
            sizes = [
                c.size or s[1:] for c, s in zip(changes or [Change()] * n, shapes, strict=True)
            ]
            room = np.array(sizes) - np.array(self.crop)
            spots = rng.integers(0, room + 1) if self.crops_by_chance else room // 2
            top, left = spots[:, 0], spots[:, 1]
        mirror = rng.random(n) < 0.5 if self.mirror else np.zeros(n, np.bool_)
        return Draw(top, left, mirror, changes)

    def apply(self, images: Sequence[Image] | Image, draw: Draw) -> NDArray[np.float32]:
        """Transformed images (N, C, H, W) float32, channels-last in memory.

        A few images pass through both halves at a time, so that they stay in a core's cache.

        Raises:
            DataError: the transformation does not fit the images, or they come out in different
                sizes.
        """
        shape = self.out_shape(images[0].shape)
        out = _channels_last(len(images), shape, np.dtype(np.float32))
        step = max(1, _BLOCK // max(1, prod(shape)))
        for first in range(0, len(images), step):
            block = slice(first, first + step)
            part = draw.part(block)
            pixels = self.pixels(images[block], part)
            if pixels.shape[1:] != shape:
                raise _different_sizes(shape, pixels.shape[1:])
            self._normalize(pixels, part, out[block])
        return out

    def pixels(self, images: Sequence[Image] | Image, draw: Draw) -> Image:
        """The first half: images augmented, cropped and mirrored, (N, C, H, W), channels-last in
        memory. Their numbers are as stored: bytes, or float32 if one of them is.

        Raises:
            DataError: images of different sizes without a crop.
        """
        parts: Sequence[Image] | Image = images
        if self.augment.changes_geometry:
            parts = [reshape_image(p, c) for p, c in zip(parts, draw.changes, strict=True)]
        if self.crop:
            height, width = self.crop
            parts = [
                image[:, t : t + height, x : x + width]
                for image, t, x in zip(parts, draw.top.tolist(), draw.left.tolist(), strict=True)
            ]
        if self.augment.changes_color:
            parts = [recolor(p, c) for p, c in zip(parts, draw.changes, strict=True)]
        if self.turns_flow:
            parts = [
                _turned(p) if mirror else p for p, mirror in zip(parts, draw.mirror, strict=True)
            ]
        return stack(parts, draw.mirror)

    def _normalize(self, pixels: Image, draw: Draw, out: NDArray[np.float32]) -> None:
        """The second half, on the host: fill `out` with (pixel - mean) * scale. All (N, C, H, W),
        channels-last in memory."""
        target = _rows(out)
        target[...] = _rows(pixels)
        if self.mean_image is not None:
            target -= self._means(draw, pixels.shape[3])
        elif len(self.mean_values):
            row_length = target.shape[2]
            target -= np.tile(self.mean_values.ravel(), row_length // self.mean_values.size)
        if self.scale != 1:
            target *= self.scale

    def _means(self, draw: Draw, width: int) -> NDArray[np.float32]:
        """The part of the mean image that lies under each image, rows of pixels: (N, H, W * C), or
        (H, W * C) if it is the same for all."""
        assert self.mean_image is not None
        assert self._mean_rows is not None
        channels, full_height, full_width = self.mean_image.shape
        height = self.crop[0] if self.crop else full_height
        cuts: dict[Any, NDArray[np.float32]] = {}
        means = []
        for place in zip(*(values.tolist() for values in draw[:3]), strict=True):
            if place not in cuts:
                top, left, mirror = place
                x = full_width - width - left if mirror else left
                columns = slice(x * channels, (x + width) * channels)
                cuts[place] = self._mean_rows[mirror][top : top + height, columns]
            means.append(cuts[place])
        return means[0] if len(cuts) == 1 else np.stack(means)

    def normalize_tensor(self, pixels: Tensor, draw: Draw) -> Tensor:
        """The second half on a device, of a tensor there (N, C, H, W); row-major in memory."""
        where = pixels.device
        x = pixels.to(torch.float32, memory_format=torch.contiguous_format)
        if self.mean_image is not None:
            height, width = pixels.shape[2:]
            rows = torch.from_numpy(draw.top)[:, None] + torch.arange(height)
            columns = torch.from_numpy(draw.left)[:, None] + torch.arange(width)
            mirror = torch.from_numpy(draw.mirror)[:, None]
            columns = torch.where(mirror, columns.flip(1), columns)
            both = [_sent(index, where) for index in (rows[:, :, None], columns[:, None, :])]
            x -= self._mean_at(where, self.mean_image)[:, both[0], both[1]].transpose(0, 1)
        elif len(self.mean_values):
            x -= self._mean_at(where, self.mean_values)
        return x * float(self.scale) if self.scale != 1 else x

    def _mean_at(self, where: torch.device, mean: NDArray[np.float32]) -> Tensor:
        """The mean on a device; it is copied there once."""
        if where not in self._mean_on:
            self._mean_on[where] = torch.from_numpy(mean).to(where)
        return self._mean_on[where]


def _sent(index: Tensor, where: torch.device) -> Tensor:
    """The tensor on a device; to a GPU it goes while the host goes on."""
    return (index.pin_memory() if where.type == "cuda" else index).to(where, non_blocking=True)


def crop_of(param: caffe_pb2.TransformationParameter) -> HeightWidth | None:
    """Height and width of the crop; None: there is none. `crop_size` comes before the forks' crop_h
    and crop_w.

    Raises:
        NetError: one of crop_h and crop_w without the other.
    """
    if param.crop_size:
        return (param.crop_size, param.crop_size)
    if bool(param.crop_h) != bool(param.crop_w):
        raise NetError(
            f"crop_h and crop_w go together: got crop_h={param.crop_h}, crop_w={param.crop_w}."
        )
    return (param.crop_h, param.crop_w) if param.crop_h else None


def _turned(flow: Image) -> Image:
    """Motion in a mirror: what goes to the right in x, every other channel, goes to the left."""
    turned = flow.copy()
    turned[::2] = 255 - turned[::2]
    return turned


def _rows_both_ways(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """An image (C, H, W) as rows of pixels, (H, W * C), as it is and mirrored."""
    pixels = image.transpose(1, 2, 0)
    return tuple(p.reshape(len(p), -1) for p in (pixels, np.flip(pixels, 1)))


def _rows(images: NDArray[T]) -> NDArray[T]:
    """Images (N, C, H, W), channels-last in memory, as rows of pixels (N, H, W * C)."""
    n, c, h, w = images.shape
    return images.transpose(0, 2, 3, 1).reshape(n, h, w * c)


def _channels_last(count: int, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An empty array (count, C, H, W), channels-last in memory."""
    c, h, w = shape
    return np.empty((count, h, w, c), dtype).transpose(0, 3, 1, 2)


def _different_sizes(first: Shape, other: Shape) -> DataError:
    return DataError(
        f"images of different sizes in one batch: {first} and {other}.",
        advice="Give crop_size, resize the images, or use batch_size: 1.",
    )


def stack(images: Sequence[Image] | Image, mirror: NDArray[np.bool_]) -> Image:
    """Images (C, H, W) of one size in one array (N, C, H, W), channels-last in memory.

    Args:
        mirror: which of them to mirror.

    Raises:
        DataError: images of different sizes.
    """
    if isinstance(images, np.ndarray) and images.flags.c_contiguous:
        return _interleave(images, mirror)
    shape = images[0].shape
    for image in images:
        if image.shape != shape:
            raise _different_sizes(shape, image.shape)
    dtype = np.result_type(*{image.dtype for image in images})
    out = _channels_last(len(images), shape, dtype)
    for target, image, flipped in zip(out, images, mirror.tolist(), strict=True):
        _put(image, target.transpose(1, 2, 0), flipped)
    return out


def _interleave(images: Image, mirror: NDArray[np.bool_]) -> Image:
    """As `stack`, of images that lie row-major in one array: all at once."""
    n, c, h, w = images.shape
    if c == 1 and not mirror.any():
        return images  # both layouts are the same memory
    out = _channels_last(n, (c, h, w), images.dtype)
    if 1 < c <= CV2_CHANNELS:
        planes = [images[:, k].reshape(n, h * w) for k in range(c)]
        cv2.merge(planes, out.transpose(0, 2, 3, 1).reshape(n, h * w, c))
    else:
        out[...] = images
    for i in np.flatnonzero(mirror):
        pixels = out[i].transpose(1, 2, 0)
        if c <= CV2_CHANNELS:
            cv2.flip(pixels, 1, pixels)
        else:
            pixels[...] = pixels[:, ::-1].copy()
    return out


def _put(image: Image, target: Image, flipped: bool) -> None:
    """Copy an image (C, H, W), mirrored if `flipped`, to a target (H, W, C)."""
    if not 1 < len(image) <= CV2_CHANNELS or image.dtype != target.dtype:
        target[...] = image.transpose(1, 2, 0)[:, :: -1 if flipped else 1]
    elif image.strides[0] != image.itemsize:  # stored by channel
        cv2.merge(list(image), target)  # many times faster than a copy
        if flipped:
            cv2.flip(target, 1, target)
    elif flipped:
        cv2.flip(image.transpose(1, 2, 0), 1, target)
    else:
        target[...] = image.transpose(1, 2, 0)
