"""What happens to an image with boxes before it is cropped, as in SSD: its colors are distorted, it
is put on a larger canvas, a part is cut out, the part is resized, and noise is added. Boxes follow.

Each step is there only if the net asks for it, in training and in testing alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from moka.data.box_rows import CORNERS, cut_rows
from moka.data.box_sampler import PartSampler
from moka.data.decode import Image
from moka.data.distort import Distort, distorted
from moka.data.noise import Noise
from moka.data.resize_policy import ResizePolicy
from moka.errors import NetError
from moka.schema import caffe_pb2
from moka.types import Floats

T = TypeVar("T")


class BoxAugment:
    """The steps that a TransformationParameter and a sampler ask for.

    Several `resize_param` are policies, one of which is drawn for each batch, several `noise_param`
    changes, one of which is drawn for each image; `prob` is their share.

    Args:
        param: the message.
        sampler: chooses the part that is cut out; None: all of it.

    Raises:
        NetError: an option out of range.
    """

    def __init__(
        self, param: caffe_pb2.TransformationParameter, sampler: PartSampler | None = None
    ) -> None:
        self.policies = [ResizePolicy(each) for each in param.resize_param]
        self.policy_shares = _shares([each.prob for each in param.resize_param], "resize_param")
        self.noises = [Noise(each) for each in param.noise_param]
        self.noise_shares = _shares([each.prob for each in param.noise_param], "noise_param")
        self.distort = Distort(param.distort_param) if param.HasField("distort_param") else None
        self.expand = param.expand_param if param.HasField("expand_param") else None
        if self.expand is not None and self.expand.max_expand_ratio < 1:
            raise NetError(
                "expand_param: max_expand_ratio is 1 or more, got"
                f" {self.expand.max_expand_ratio:g}."
            )
        self.constraint = param.emit_constraint if param.HasField("emit_constraint") else None
        self.sampler = sampler

    @property
    def is_random(self) -> bool:
        """Whether two passes over one image may differ."""
        return bool(
            self.distort
            or self.expand
            or (self.sampler is not None and self.sampler.is_random)
            or len(self.policies) > 1
            or len(self.noises) > 1
            or any(policy.is_random for policy in self.policies)
            or any(noise.is_random for noise in self.noises)
        )

    def draw_policy(self, rng: np.random.Generator) -> ResizePolicy | None:
        """How the images of one batch are resized; None: they are not."""
        return _pick(self.policies, self.policy_shares, rng)

    def apply(
        self,
        image: Image,
        rows: Floats,
        policy: ResizePolicy | None,
        mean: Floats,
        rng: np.random.Generator,
    ) -> tuple[Image, Floats]:
        """An image (C, H, W) and its rows (see `box_rows`) after the steps.

        Args:
            policy: as `draw_policy` chose it for the batch.
            mean: what stands around an image on a larger canvas, a value for each channel, or one
                for all; empty: 0.

        Raises:
            DataError: an image that a step cannot change.
        """
        if self.distort is not None:
            image = distorted(image, self.distort.draw(rng))
        if self.expand is not None:
            image, rows = self._expanded(image, rows, mean, rng)
        if self.sampler is not None:
            part = self.sampler.draw(rows[:, CORNERS], rng)
            if part is not None:
                image, rows = self._cut(image, rows, part)
        if policy is not None:
            rows = rows.copy()
            rows[:, CORNERS] = policy.boxes(rows[:, CORNERS], *image.shape[1:])
            image = policy.image(image, rng)
        noise = _pick(self.noises, self.noise_shares, rng)
        return (image if noise is None else noise.apply(image, rng)), rows

    def _expanded(
        self, image: Image, rows: Floats, mean: Floats, rng: np.random.Generator
    ) -> tuple[Image, Floats]:
        """The image at a random place of a canvas up to max_expand_ratio times as wide and high."""
        assert self.expand is not None
        if rng.random() > self.expand.prob:
            return image, rows
        ratio = rng.uniform(1, self.expand.max_expand_ratio)
        channels, height, width = image.shape
        high, wide = int(height * ratio), int(width * ratio)
        top, left = (int(rng.uniform(0, room)) for room in (high - height, wide - width))
        color = np.resize(mean if mean.size else np.zeros(1, np.float32), (channels, 1, 1))
        if image.dtype == np.uint8:
            color = np.rint(color).clip(0, 255)
        canvas = np.empty((channels, high, wide), image.dtype)
        canvas[...] = color
        canvas[:, top : top + height, left : left + width] = image
        part = _part_of(image, -top, -left, high - top, wide - left)
        return canvas, cut_rows(rows, part, self.constraint)

    def _cut(self, image: Image, rows: Floats, part: Floats) -> tuple[Image, Floats]:
        """A part of the image, in whole pixels, and its rows."""
        _, height, width = image.shape
        left, top = (int(v * n) for v, n in zip(part[:2], (width, height), strict=True))
        wide, high = (
            max(1, int(v * n)) for v, n in zip(part[2:] - part[:2], (width, height), strict=True)
        )
        exact = _part_of(image, top, left, top + high, left + wide)
        cut = image[:, top : top + high, left : left + wide]
        return cut, cut_rows(rows, exact, self.constraint)


def _part_of(image: Image, top: int, left: int, bottom: int, right: int) -> Floats:
    """Pixels as parts of an image: x1, y1, x2, y2."""
    _, height, width = image.shape
    return np.array([left / width, top / height, right / width, bottom / height], np.float32)


def _shares(probabilities: Sequence[float], name: str) -> NDArray[np.float64]:
    """The shares of several choices, of sum 1. A single one needs no probability.

    Raises:
        NetError: several without one above 0, or one below.
    """
    shares = np.array(probabilities, np.float64)
    if len(shares) > 1 and (shares.min() < 0 or not shares.sum() > 0):
        raise NetError(f"of several {name}, each needs prob: the share of images that get it.")
    return shares / shares.sum() if len(shares) > 1 else np.ones(len(shares))


def _pick(choices: Sequence[T], shares: NDArray[np.float64], rng: np.random.Generator) -> T | None:
    """One of some choices. A single one is taken without a random number."""
    if len(choices) <= 1:
        return choices[0] if choices else None
    return choices[rng.choice(len(choices), p=shares)]
