"""The transformation of images: crop, mirror, subtract the mean, scale.

What is random is drawn first (`draw`), the rest is a pure function of images and draw (`apply`),
so that crops and mirrors can be tested exactly. Order, as in Caffe: crop, (pixel - mean) * scale,
mirror. The mean image is cropped where the image is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.data.datum import Image
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2, read_binary
from moka.schema.blobproto import to_array

Shape = tuple[int, ...]


class Draw(NamedTuple):
    """The random choices for one batch: a crop position and a mirror flag for each image."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    mirror: NDArray[np.bool_]


class Transform:
    """What a TransformationParameter says to do with images.

    Args:
        param: the message; its fields are read once, the mean file too.
        training: whether crops are random; in testing they are central.

    Raises:
        NetError: mean_file and mean_value together; force_color and force_gray together.
        SchemaError: the mean file is missing or broken.
    """

    def __init__(self, param: caffe_pb2.TransformationParameter, *, training: bool) -> None:
        if param.mean_file and param.mean_value:
            raise NetError("Cannot specify mean_file and mean_value at the same time.")
        if param.force_color and param.force_gray:
            raise NetError("cannot set both 'force_color' and 'force_gray'.")
        self.scale = np.float32(param.scale)
        self.mirror = param.mirror
        self.crop = param.crop_size
        self.force_color = param.force_color
        self.force_gray = param.force_gray
        self.mean_file = param.mean_file
        self.training = training
        self.mean_values = np.array(param.mean_value, np.float32).reshape(-1, 1, 1)
        self.mean_image = self._read_mean() if param.mean_file else None

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
        return self.mirror or bool(self.crop and self.training)

    def out_shape(self, image: Shape) -> Shape:
        """Shape of a transformed image of shape (C, H, W).

        Raises:
            DataError: the crop is larger than the image, or the mean does not fit it.
        """
        c, h, w = image
        if self.crop > min(h, w):
            raise DataError(f"crop_size {self.crop} is larger than the image ({h} x {w}).")
        if self.mean_image is not None and self.mean_image.shape != image:
            raise DataError(
                f"the mean in {self.mean_file} is for images of {self.mean_image.shape}, this one"
                f" is {image}.",
                advice="Make the mean from these images (compute_image_mean).",
            )
        if len(self.mean_values) not in (0, 1, c):
            raise DataError(
                "Specify either 1 mean_value or as many as channels: "
                f"{len(self.mean_values)} values for {c} channels."
            )
        return (c, self.crop, self.crop) if self.crop else image

    def draw(self, shapes: Sequence[Shape], rng: np.random.Generator) -> Draw:
        """Choose crop positions and mirrors for images of these shapes (C, H, W)."""
        n = len(shapes)
        top = np.zeros(n, np.int64)
        left = np.zeros(n, np.int64)
        if self.crop:
            room = np.array([(s[1] - self.crop, s[2] - self.crop) for s in shapes])
            spots = rng.integers(0, room + 1) if self.training else room // 2
            top, left = spots[:, 0], spots[:, 1]
        mirror = rng.random(n) < 0.5 if self.mirror else np.zeros(n, np.bool_)
        return Draw(top, left, mirror)

    def apply(self, images: Sequence[Image] | Image, draw: Draw) -> NDArray[np.float32]:
        """Transformed images (N, C, H, W) float32. All must come out in one size.

        Raises:
            DataError: images of different sizes without a crop.
        """
        if self.crop:
            images = [
                image[:, t : t + self.crop, x : x + self.crop]
                for image, t, x in zip(images, draw.top, draw.left, strict=True)
            ]
        batch = _stack(images).astype(np.float32)
        if self.mean_image is not None:
            batch -= self._means(draw)
        elif len(self.mean_values):
            batch -= self.mean_values
        if self.scale != 1:
            batch *= self.scale
        if draw.mirror.any():
            batch[draw.mirror] = batch[draw.mirror, :, :, ::-1]
        return batch

    def _means(self, draw: Draw) -> NDArray[np.float32]:
        assert self.mean_image is not None
        if not self.crop:
            return self.mean_image
        spots = {(int(t), int(x)) for t, x in zip(draw.top, draw.left, strict=True)}
        crops = {(t, x): self.mean_image[:, t : t + self.crop, x : x + self.crop] for t, x in spots}
        if len(crops) == 1:
            return crops.popitem()[1]
        return np.stack([crops[int(t), int(x)] for t, x in zip(draw.top, draw.left, strict=True)])


def _stack(images: Sequence[Image] | Image) -> Image:
    if isinstance(images, np.ndarray):
        return images
    shape = images[0].shape
    for image in images:
        if image.shape != shape:
            raise DataError(
                f"images of different sizes in one batch: {shape} and {image.shape}.",
                advice="Give crop_size, resize the images, or use batch_size: 1.",
            )
    return np.stack(images)
