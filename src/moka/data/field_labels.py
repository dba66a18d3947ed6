"""Maps of labels for the score maps of several scales, as MS-CNN and Cascade R-CNN train with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from moka.data.box_rows import areas, shared_areas
from moka.data.object_lists import Objects
from moka.types import Floats, Shape

CHANNELS = 6  # label, center x, center y, width, height, overlap
LABEL, IGNORE, CORNERS = 0, 1, slice(3, 7)  # columns of the rows of Objects


def nearest(value: float) -> int:
    """A number of 0 or more to the nearest integer, halves up, as C's round."""
    return int(np.floor(value + 0.5))


class Field(NamedTuple):
    """One scale: every `stride` pixels an anchor of this height and width."""

    stride: int
    height: int
    width: int

    def map_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the map for an image."""
        return nearest(height / self.stride), nearest(width / self.stride)


class Place(NamedTuple):
    """Where an image lies on its canvas, in pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class FieldLabels:
    """How the maps of labels are made.

    Each anchor has the label of the object that it overlaps most, if by more than `threshold`; 0 if
    that object is to be ignored. Its channel 5 is the overlap, 1 where the loss is to leave it out:
    outside of the image, beyond what `margin` or `inside` allow, over regions of no interest. An
    object that no anchor has gets, where its center is, that of the scale that it overlaps most, if
    by `pick_up` or more.

    Attributes:
        fields: the scales.
        threshold: overlap above which an anchor is an object's.
        region_threshold: an anchor with so much of its area in regions of no interest is left out.
        pick_up: see above.
        extra: 1 where the second corner of a box belongs to it (Cascade R-CNN), else 0 (MS-CNN).
        regions_first: whether regions of no interest come before objects (MS-CNN), or only count
            for anchors without one.
        margin: leave out anchors that reach beyond the image by more than this part of half their
            size; None: do not.
        inside: leave out anchors with less than this part of their area in the image; None: do not.
    """

    fields: Sequence[Field]
    threshold: float
    region_threshold: float
    pick_up: float
    extra: int
    regions_first: bool
    margin: float | None = None
    inside: float | None = None

    def maps(self, objects: Objects, place: Place, canvas: tuple[int, int]) -> list[Floats]:
        """For each scale a map (6, H, W).

        Args:
            objects: on the canvas.
            place: of the image on the canvas.
            canvas: its height and width.
        """
        rows = objects.rows
        boxes = rows[:, CORNERS]
        best = np.zeros((len(self.fields), len(rows)), np.float32)
        taken = np.zeros(len(rows), np.bool_)
        made = []
        for number, field in enumerate(self.fields):
            size = field.map_size(*canvas)
            anchors = _anchors(field, size)
            out = ~_cells(field, place, size)
            out |= self._beyond(anchors, place, field)
            over = np.zeros(len(anchors), np.bool_)
            if len(objects.regions):
                shared = shared_areas(anchors[:, None], objects.regions, self.extra)
                parts = shared.sum(1) / areas(anchors, self.extra)
                over = parts >= self.region_threshold
            if self.regions_first:
                out |= over
            overlap = self._overlaps(anchors, boxes)
            overlap[out] = 0
            target = np.zeros((CHANNELS, len(anchors)), np.float32)
            most = overlap.max(1, initial=0)
            target[5] = np.where(out | (over & (most <= self.threshold)), 1, most)
            found = most > self.threshold
            if len(rows):
                best[number] = overlap.max(0, initial=0)
                match = overlap.argmax(1)[found]
                taken[match] = True
                target[:5, found] = self._labels(rows[match])
                target[0, found] *= rows[match, IGNORE] == 0
            made.append(target.reshape(CHANNELS, *size))
        self._pick_up(made, rows, best, taken)
        return made

    def _overlaps(self, anchors: Floats, boxes: Floats) -> Floats:
        shared = shared_areas(anchors[:, None], boxes, self.extra)
        both = areas(anchors, self.extra)[:, None] + areas(boxes, self.extra) - shared
        return np.divide(shared, both, out=np.zeros_like(shared), where=shared > 0)

    def _labels(self, rows: Floats) -> Floats:
        """Channels 0 to 4 (5, K) for objects (K, 7)."""
        first, second = rows[:, 3:5], rows[:, 5:7]
        center, size = (first + second) / 2, second - first + self.extra
        return np.concatenate([rows[:, :1], center, size], 1).T

    def _beyond(self, anchors: Floats, place: Place, field: Field) -> NDArray[np.bool_]:
        """Which anchors lie too far out of the image."""
        low = np.array([place.left, place.top], np.float32)
        high = low + np.array([place.width, place.height], np.float32)
        if self.margin is not None:
            room = self.margin * np.array([field.width, field.height], np.float32) / 2
            far = (anchors[:, :2] < low - room) | (anchors[:, 2:] >= high + room)
            return far[:, 0] | far[:, 1]
        if self.inside is not None:
            image = np.concatenate([low, high])
            parts = shared_areas(anchors, image, self.extra) / areas(anchors, self.extra)
            few: NDArray[np.bool_] = parts < self.inside
            return few
        return np.zeros(len(anchors), np.bool_)

    def _pick_up(
        self, maps: Sequence[Floats], rows: Floats, best: Floats, taken: NDArray[np.bool_]
    ) -> None:
        """Give objects that no anchor has one, each in its turn."""
        if not maps:
            return
        for row, overlap, has_one in zip(rows, best.T, taken.tolist(), strict=True):
            number = int(overlap.argmax())
            if has_one or row[IGNORE] or overlap[number] < self.pick_up:
                continue
            column = self._labels(row[None])[:, 0]
            _, height, width = maps[number].shape
            spots = np.floor(column[1:3] / self.fields[number].stride)
            x, y = np.clip(spots, 0, (width - 1, height - 1)).astype(int)
            if maps[number][0, y, x] > 0:
                continue
            maps[number][:5, y, x] = column
            if not self.regions_first:  # Cascade R-CNN
                maps[number][5, y, x] = overlap[number]


def _anchors(field: Field, size: tuple[int, int]) -> Floats:
    """The anchors (K, 4) of a map, row by row."""
    y, x = ((np.arange(n, dtype=np.float32) + 0.5) * field.stride for n in size)
    center = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    half = np.array([field.width, field.height], np.float32) / 2
    return np.concatenate([center - half, center + half], 1)


def _cells(field: Field, place: Place, size: Shape) -> NDArray[np.bool_]:
    """Which cells (K,) of a map belong to the image, not to the canvas around it."""
    inside = []
    for start, length, count in zip(place[:2], place[2:], size, strict=True):
        first = nearest(start / field.stride)
        cells = np.arange(count)
        inside.append((cells >= first) & (cells < first + nearest(length / field.stride)))
    return np.logical_and.outer(*inside).ravel()
