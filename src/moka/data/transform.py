"""The transformation of images: augment, crop, mirror, subtract the mean, scale.

What is random is drawn first (`draw`), the rest is a pure function of images and draw, so that
crops and mirrors can be tested exactly. It has two halves: `pixels` moves bytes about, and
`normalize` makes them floats, (pixel - mean) * scale: on the host, or on the device where the net
runs, so that only bytes travel. As in Caffe, the mean image is cropped where the image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from moka.data.augment import Augment, Change, recolor, reshape_image
from moka.data.datum import Image
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array
from moka.types import Shape

_BLOCK = 1 << 16  # numbers that stay in a core's cache from one step of the arithmetic to the next


class Draw(NamedTuple):
    """The random choices for one batch: for each image a crop position, a mirror flag, and what
    augmentation does to it, if anything."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirror: NDArray[np.bool_]
    changes: Sequence[Change] = ()


class Transform:
    """What a TransformationParameter says to do with images.

    Args:
        param: the message; its fields are read once, the mean file too.
        training: whether crops are random; in testing they are central.

    Raises:
        NetError: fields that exclude each other, or lie outside of their range.
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
        self.crop = param.crop_size
        self.force_color = param.force_color
        self.force_gray = param.force_gray
        self.mean_file = param.mean_file
        self.training = training
        self.mean_values = np.array(param.mean_value, np.float32).reshape(-1, 1, 1)
        self.mean_image = self._read_mean() if param.mean_file else None
        self._mirrored_mean = (
            None if self.mean_image is None else self.mean_image[:, :, ::-1].copy()
        )
        self._mean_on: dict[torch.device, Tensor] = {}

    def _read_mean(self) -> NDArray[np.float32]:
        mean = to_array(read_binary(self.mean_file, caffe_pb2.BlobProto))
        if mean.ndim != 4 or mean.shape[0] != 1:
            raise DataError(
                f"a mean file holds one image (1, channels, height, width), found shape"
                f" {mean.shape}.",
                file=self.mean_file,
            )
        return mean[0]

    @property
    def is_random(self) -> bool:
        """Whether two passes over the same images may differ."""
        return self.mirror or bool(self.crop and self.training) or self.augment.is_random

    def out_shape(self, image: Shape) -> Shape:
        """Shape of a transformed image of shape (C, H, W).

        Raises:
            DataError: the crop is larger than the image, or the mean does not fit it.
        """
        c, h, w = self.augment.least_shape(image)
        if self.crop > min(h, w):
            raise DataError(
                f"crop_size {self.crop} is larger than the image ({h} x {w}).",
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
        return (c, self.crop, self.crop) if self.crop else (c, h, w)

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
            room = np.array(sizes) - self.crop
            spots = rng.integers(0, room + 1) if self.training else room // 2
            top, left = spots[:, 0], spots[:, 1]
        mirror = rng.random(n) < 0.5 if self.mirror else np.zeros(n, np.bool_)
        return Draw(top, left, mirror, changes)

    def apply(self, images: Sequence[Image] | Image, draw: Draw) -> NDArray[np.float32]:
        """Transformed images (N, C, H, W) float32. All must come out in one size.

        Raises:
            DataError: images of different sizes without a crop.
        """
        return self.normalize(self.pixels(images, draw), draw)

    def pixels(self, images: Sequence[Image] | Image, draw: Draw) -> Image:
        """The first half: images augmented, cropped and mirrored, (N, C, H, W), as they are
        stored: bytes, or float32 if one of them is.

        Raises:
            DataError: images of different sizes without a crop.
        """
        if isinstance(images, np.ndarray) and not self.crop and not draw.changes:
            if not draw.mirror.any():
                return images
            out = images.copy()
        else:
            out = self._gather(images, draw)
        for i in np.flatnonzero(draw.mirror):
            rows = out[i].reshape(-1, out.shape[-1])
            cv2.flip(rows, 1, rows)
        return out

    def _gather(self, images: Sequence[Image] | Image, draw: Draw) -> Image:
        """The images in one array, augmented and cropped."""
        parts: list[Image] = list(images)
        if self.augment.changes_geometry:
            parts = [reshape_image(p, c) for p, c in zip(parts, draw.changes, strict=True)]
        if self.crop:
            parts = [
                image[:, t : t + self.crop, x : x + self.crop]
                for image, t, x in zip(parts, draw.top.tolist(), draw.left.tolist(), strict=True)
            ]
        if self.augment.changes_color:
            parts = [recolor(p, c) for p, c in zip(parts, draw.changes, strict=True)]
        return _stack(parts)

    def normalize(self, pixels: Image, draw: Draw) -> NDArray[np.float32]:
        """The second half: (pixel - mean) * scale, on the host. (N, C, H, W)."""
        out = np.empty(pixels.shape, np.float32)
        step = max(1, _BLOCK // max(1, pixels[0].size))
        for first in range(0, len(out), step):
            block = slice(first, first + step)
            part = out[block]
            part[...] = pixels[block]
            if self.mean_image is not None:
                part -= self._means(draw, block, part.shape[-1])
            elif len(self.mean_values):
                part -= self.mean_values
            if self.scale != 1:
                part *= self.scale
        return out

    def _means(self, draw: Draw, block: slice, width: int) -> NDArray[np.float32]:
        """The part of the mean image that lies under each image of a block."""
        assert self.mean_image is not None
        assert self._mirrored_mean is not None
        places = zip(*(values[block].tolist() for values in draw[:3]), strict=True)
        cuts: dict[Any, NDArray[np.float32]] = {}
        means = []
        for place in places:
            if place not in cuts:
                top, left, mirror = place
                mean = self._mirrored_mean if mirror else self.mean_image
                x = mean.shape[2] - width - left if mirror else left
                height = self.crop or mean.shape[1]
                cuts[place] = mean[:, top : top + height, x : x + width]
            means.append(cuts[place])
        return means[0] if len(cuts) == 1 else np.stack(means)

    def normalize_tensor(self, pixels: Tensor, draw: Draw) -> Tensor:
        """The second half on a device: `normalize`, of a tensor there (N, C, H, W)."""
        where = pixels.device
        x = pixels.float()
        if self.mean_image is not None:
            if where not in self._mean_on:
                self._mean_on[where] = torch.from_numpy(self.mean_image).to(where)
            height, width = pixels.shape[2:]
            rows = torch.from_numpy(draw.top)[:, None] + torch.arange(height)
            columns = torch.from_numpy(draw.left)[:, None] + torch.arange(width)
            mirror = torch.from_numpy(draw.mirror)[:, None]
            columns = torch.where(mirror, columns.flip(1), columns)
            spots = rows[:, :, None].to(where), columns[:, None, :].to(where)
            x -= self._mean_on[where][:, spots[0], spots[1]].transpose(0, 1)
        elif len(self.mean_values):
            x -= torch.from_numpy(self.mean_values).to(where)
        return x * float(self.scale) if self.scale != 1 else x


def _stack(images: Sequence[Image]) -> Image:
    """Images of one size in one array; those that were decoded are not stored by channel yet."""
    shape = images[0].shape
    for image in images:
        if image.shape != shape:
            raise DataError(
                f"images of different sizes in one batch: {shape} and {image.shape}.",
                advice="Give crop_size, resize the images, or use batch_size: 1.",
            )
    out = np.empty((len(images), *shape), np.result_type(*{i.dtype for i in images}))
    for target, image in zip(out, images, strict=True):
        if shape[0] == 3 and image.strides[0] == image.itemsize == out.itemsize:
            cv2.split(image.transpose(1, 2, 0), list(target))  # many times faster than a copy
        else:
            target[...] = image
    return out
