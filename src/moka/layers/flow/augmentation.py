"""The layer that prepares the images of FlowNet's nets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from moka.errors import NetError
from moka.layers.base import BlobSpec, Layer
from moka.layers.options import option
from moka.layers.registry import layer
from moka.layers.sampling import bilinear
from moka.layers.shapes import refuse_empty_axes
from moka.schema import caffe_pb2
from moka.types import Array, Shape


def _state(config: caffe_pb2.LayerParameter) -> tuple[int, ...]:
    return (0, 1, 2) if config.augmentation_param.recompute_mean else (0,)


def augmentations(config: caffe_pb2.LayerParameter) -> list[str]:
    """The options that change images by chance."""
    fields = config.augmentation_param.ListFields()
    return [
        field.name
        for field, _ in fields
        if field.message_type is not None
        and field.message_type.name == caffe_pb2.RandomGeneratorParameter.DESCRIPTOR.name
    ]


@layer(
    "DataAugmentation",
    bottoms=1,
    tops=1,
    message="augmentation_param",
    differentiable=False,
    state_blobs=_state,
    fork="FlowNet2",
)
class DataAugmentation(Layer):
    """Subtracts a stored mean from images, as FlowNet's nets do in testing: y = x - mean.

    With `recompute_mean` above 0 the mean is in the blobs: with `mean_per_pixel` (default) one for
    each pixel, else one for each channel. Without, it is `mean`, three values for the channels, if
    mean_per_pixel is false; else nothing is subtracted. `crop_height` and `crop_width` cut the
    center before that; where it begins between two pixels their mean is taken.

    Bottom: (N, C, H, W). Top: (N, C, crop_height, crop_width), by default as the bottom. Blobs:
    the count of passes in training (1, 1, 1, 1); with recompute_mean the mean of each pixel
    (1, C, H', W'), of the top's size, and of each channel (1, C, 1, 1). None is trained, and there
    is no gradient. A stored mean of another size becomes the mean of its channels. Message:
    augmentation_param. Dosovitskiy et al., 2015 (FlowNet).

    Errors: a crop larger than the image. A pass in training, or with `augment_during_test`, that
    would change images by chance is an error, since that is not supported.
    """

    augment_during_test: bool = option()
    recompute_mean: int = option()
    mean_per_pixel: bool = option()
    mean: tuple[float, ...] = option()
    crop_width: int = option()
    crop_height: int = option()

    def setup(self, x: Shape) -> None:
        self.by_chance = augmentations(self.config)

    def top_shapes(self, x: Shape) -> list[Shape]:
        if len(x) != 4:
            raise NetError(f"takes images (N, C, H, W), got a bottom of shape {x}.")
        refuse_empty_axes(x, first=1)
        if not (self.crop_height and self.crop_width):
            return [x]
        if self.crop_height > x[2] or self.crop_width > x[3]:
            raise NetError(
                f"the crop ({self.crop_height} x {self.crop_width}) is larger than the image"
                f" ({x[2]} x {x[3]})."
            )
        return [(*x[:2], self.crop_height, self.crop_width)]

    def blob_specs(self, x: Shape) -> Iterable[BlobSpec]:
        zero = caffe_pb2.FillerParameter()
        (top,) = self.top_shapes(x)
        yield BlobSpec((1, 1, 1, 1), zero, "count")
        if self.recompute_mean:
            yield BlobSpec((1, *top[1:]), zero, "mean_of_pixels")
            yield BlobSpec((1, top[1], 1, 1), zero, "mean_of_channels")

    def adapted_blobs(self, stored: Mapping[int, Array]) -> Mapping[int, Array]:
        """A mean image of another size becomes the mean of its pixels everywhere."""
        if 1 not in stored or len(self.blob_shapes) < 2:
            return stored
        values, wanted = stored[1], self.blob_shapes[1]
        if values.ndim != 4 or values.shape[:2] != wanted[:2] or values.shape == wanted:
            return stored
        mean = values.mean((2, 3), keepdims=True) + np.zeros(wanted, values.dtype)
        return {**stored, 1: mean}

    def forward(self, x: Tensor) -> Tensor:
        if self.by_chance and (self.training or self.augment_during_test):
            raise NetError(
                f"{self.by_chance[0]} changes images by chance, which is not supported.",
                advice="Run a net for testing, without augment_during_test.",
            )
        y = self._cut(x.detach())
        mean = self.mean_of(tuple(y.shape[2:]))
        return y.clone() if mean is None else y - mean.to(y)

    def mean_of(self, size: Shape) -> Tensor | None:
        """What is subtracted from images of this size; None: nothing."""
        if self.recompute_mean:
            mean = self.blobs[1 if self.mean_per_pixel else 2].detach()
            if mean.shape[2:] not in ((1, 1), size):  # the images have another size now
                mean = mean.mean((2, 3), keepdim=True)
            return mean
        if len(self.mean) == 3 and not self.mean_per_pixel:
            return torch.tensor(self.mean)[:, None, None]
        return None

    def _cut(self, x: Tensor) -> Tensor:
        (top,) = self.top_shapes(tuple(x.shape))
        if top == tuple(x.shape):
            return x
        rows, columns = (
            (big - small) / 2 + torch.arange(small, dtype=x.dtype, device=x.device)
            for big, small in zip(x.shape[2:], top[2:], strict=True)
        )
        shape = (len(x), *top[2:])
        return bilinear(x, rows[:, None].expand(shape), columns.expand(shape))
