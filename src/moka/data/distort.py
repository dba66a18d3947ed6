"""SSD's random changes of colors (Howard, 2013, in the form of Liu et al., 2016)."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from moka.data.decode import Image
from moka.errors import DataError, NetError
from moka.schema import caffe_pb2


class Step(NamedTuple):
    """One change of the colors.

    Attributes:
        kind: brightness (adds `amount`), contrast (times it), saturation (times it), hue (adds it,
            in half degrees), or order.
        amount: see kind.
        order: of "order", the channel that becomes each of the three.
    """

    kind: str
    amount: float = 0.0
    order: tuple[int, ...] = ()


class Distort:
    """The changes that a DistortionParameter asks for.

    Brightness comes first. Contrast comes next, or after hue, one time in two. Saturation and hue
    are changed in HSV. The order of the channels is changed last.

    Args:
        param: the message.

    Raises:
        NetError: an amount out of range.
    """

    def __init__(self, param: caffe_pb2.DistortionParameter) -> None:
        self.param = param
        for name in ("brightness", "hue"):
            delta = getattr(param, f"{name}_delta")
            if delta < 0:
                raise NetError(f"distort_param: {name}_delta must be >= 0, got {delta:g}.")
        for name in ("contrast", "saturation"):
            lower, upper = getattr(param, f"{name}_lower"), getattr(param, f"{name}_upper")
            if not 0 <= lower <= upper:
                raise NetError(
                    f"distort_param: 0 <= {name}_lower <= {name}_upper must hold, got"
                    f" {lower:g} and {upper:g}."
                )

    def draw(self, rng: np.random.Generator) -> list[Step]:
        """Choose what happens to one image."""
        names = ["brightness", "saturation", "hue"]
        names.insert(1 if rng.random() > 0.5 else 3, "contrast")
        steps = []
        for name in names:
            if rng.random() < getattr(self.param, f"{name}_prob"):
                steps.append(Step(name, rng.uniform(*self._range(name))))
        if rng.random() < self.param.random_order_prob:
            steps.append(Step("order", order=tuple(rng.permutation(3).tolist())))
        return steps

    def _range(self, name: str) -> tuple[float, float]:
        if name in ("brightness", "hue"):
            delta = getattr(self.param, f"{name}_delta")
            return -delta, delta
        return getattr(self.param, f"{name}_lower"), getattr(self.param, f"{name}_upper")


def distorted(image: Image, steps: list[Step]) -> Image:
    """An image (C, H, W) of bytes after some changes. Results are rounded and stay bytes.

    Raises:
        DataError: pixels that are not bytes; a change of hue, saturation or order without three
            channels.
    """
    if steps and image.dtype != np.uint8:
        raise DataError("distort_param changes images of bytes, this one has floats.")
    for step in steps:
        if step.kind in ("brightness", "contrast"):
            image = _linear(image, step)
        elif len(image) != 3:
            raise DataError(
                f"distort_param changes {step.kind} of images with 3 channels, this one has"
                f" {len(image)}."
            )
        elif step.kind == "order":
            image = image[list(step.order)]
        else:
            pixels = cv2.cvtColor(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.COLOR_BGR2HSV)
            channel = 0 if step.kind == "hue" else 1
            pixels[..., channel] = _linear(pixels[..., channel], step)
            image = cv2.cvtColor(pixels, cv2.COLOR_HSV2BGR).transpose(2, 0, 1)
    return image


def _linear(values: Image, step: Step) -> Image:
    """Bytes plus the amount, or times it, rounded and cut off at 0 and 255."""
    wide = values.astype(np.float32)
    wide = wide + step.amount if step.kind in ("brightness", "hue") else wide * step.amount
    return np.rint(wide).clip(0, 255).astype(np.uint8)
