"""Random parts of an image that stand in a wanted relation to its boxes, as SSD trains with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from moka.data.box_rows import areas, shared_areas
from moka.errors import NetError
from moka.schema import caffe_pb2
from moka.types import Floats


class PartSampler(Protocol):
    """Chooses a part of an image.

    Attributes:
        is_random: whether it may choose another part the next time.
    """

    @property
    def is_random(self) -> bool: ...

    def draw(self, boxes: Floats, rng: np.random.Generator) -> Floats | None:
        """x1, y1, x2, y2 as parts of an image with these boxes (G, 4); None: all of it."""


class BatchSamplers:
    """SSD's samplers. Each tries random parts until `max_sample` of them meet its constraint or
    `max_trials` have been tried; then one of all parts found is chosen.

    Where a constraint names several measures, one box has to meet all of them. (In SSD's code only
    the first one counts.)

    Args:
        params: the messages, at least one.

    Raises:
        NetError: scales or aspect ratios out of range.
    """

    def __init__(self, params: Sequence[caffe_pb2.BatchSampler]) -> None:
        for param in params:
            _check(param.sampler)
        self.params = [param for param in params if param.use_original_image]

    @property
    def is_random(self) -> bool:
        """Whether a part may be less than the whole image."""
        return any(param.sampler.min_scale < 1 for param in self.params)

    def draw(self, boxes: Floats, rng: np.random.Generator) -> Floats | None:
        """As `PartSampler.draw`."""
        found = np.concatenate(
            [np.empty((0, 4), np.float32), *(_found(param, boxes, rng) for param in self.params)]
        )
        return found[rng.integers(len(found))] if len(found) else None


class Jitter:
    """MobileNet-YOLO's choice: one image in five as it is, one with half the jitter, three with all
    of it. Width and height of the part are 1 - jitter to 1 of the image's.

    Args:
        jitter: 0 to below 1.

    Raises:
        NetError: out of range.
    """

    def __init__(self, jitter: float) -> None:
        if not 0 <= jitter < 1:
            raise NetError(f"yolo_data_jitter is 0 or more and below 1, got {jitter:g}.")
        self.jitter = jitter

    @property
    def is_random(self) -> bool:
        """Whether a part may be less than the whole image."""
        return self.jitter > 0

    def draw(self, boxes: Floats, rng: np.random.Generator) -> Floats | None:
        """As `PartSampler.draw`."""
        jitter = self.jitter * rng.choice([0, 0.5, 1], p=[0.2, 0.2, 0.6])
        if not jitter:
            return None
        size = rng.uniform(1 - jitter, 1, 2)
        start = rng.uniform(0, 1 - size)
        return np.concatenate([start, start + size]).astype(np.float32)


def _found(param: caffe_pb2.BatchSampler, boxes: Floats, rng: np.random.Generator) -> Floats:
    """The parts (F, 4) that one sampler finds."""
    parts = _random_parts(param.sampler, param.max_trials, rng)
    found = parts[_satisfied(param.sample_constraint, parts, boxes)]
    return found[: param.max_sample] if param.HasField("max_sample") else found


def _random_parts(sampler: caffe_pb2.Sampler, count: int, rng: np.random.Generator) -> Floats:
    """Parts (count, 4) of random scale (the root of their area), aspect ratio and place."""
    scale = rng.uniform(sampler.min_scale, sampler.max_scale, count)
    aspect = rng.uniform(sampler.min_aspect_ratio, sampler.max_aspect_ratio, count)
    aspect = np.minimum(np.maximum(aspect, scale**2), 1 / scale**2)  # it fits into the image
    root = np.sqrt(aspect)
    size = np.minimum(np.stack([scale * root, scale / root], 1), 1)
    start = rng.uniform(0, 1, (count, 2)) * (1 - size)
    return np.concatenate([start, start + size], 1).astype(np.float32)


def _satisfied(
    constraint: caffe_pb2.SampleConstraint, parts: Floats, boxes: Floats
) -> NDArray[np.bool_]:
    """Which parts (P, 4) meet the constraint for one of the boxes (G, 4) at least."""
    if not constraint.ListFields():
        return np.ones(len(parts), np.bool_)
    shared = shared_areas(parts[:, None], boxes)  # (P, G)
    of_part, of_box = areas(parts)[:, None], areas(boxes)
    met = np.ones(shared.shape, np.bool_)
    for name, whole in (
        ("jaccard_overlap", of_part + of_box - shared),
        ("sample_coverage", of_part),
        ("object_coverage", of_box),
    ):
        value = np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0)
        if constraint.HasField(f"min_{name}"):
            met &= value >= getattr(constraint, f"min_{name}")
        if constraint.HasField(f"max_{name}"):
            met &= value <= getattr(constraint, f"max_{name}")
    satisfied: NDArray[np.bool_] = np.logical_or.reduce(met, axis=1)
    return satisfied


def _check(sampler: caffe_pb2.Sampler) -> None:
    if not 0 < sampler.min_scale <= sampler.max_scale <= 1:
        raise NetError(
            "sampler: 0 < min_scale <= max_scale <= 1 must hold, got"
            f" {sampler.min_scale:g} and {sampler.max_scale:g}."
        )
    if not 0 < sampler.min_aspect_ratio <= sampler.max_aspect_ratio < float("inf"):
        raise NetError(
            "sampler: 0 < min_aspect_ratio <= max_aspect_ratio must hold, got"
            f" {sampler.min_aspect_ratio:g} and {sampler.max_aspect_ratio:g}."
        )
