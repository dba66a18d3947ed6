"""Maps of labels against loops over cells and objects, written from the definition."""

from __future__ import annotations

import numpy as np
import pytest

from moka.data.field_labels import Field, FieldLabels, Place
from moka.data.object_lists import Objects
from moka.types import Floats

CANVAS = (48, 64)
FIELDS = (Field(8, 16, 12), Field(16, 32, 24))


def overlap(a: Floats, b: Floats, extra: int, over: str = "IOU") -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + extra
    height = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if width <= 0 or height <= 0:
        return 0.0
    first = (a[2] - a[0] + extra) * (a[3] - a[1] + extra)
    second = (b[2] - b[0] + extra) * (b[3] - b[1] + extra)
    shared = width * height
    return float(shared / (first if over == "IOFU" else first + second - shared))


def slow(labels: FieldLabels, objects: Objects, place: Place) -> list[Floats]:
    rows, regions, e = objects.rows, objects.regions, labels.extra
    best = dict.fromkeys(range(len(rows)), (0.0, 0))
    taken = set()
    maps = []
    for number, field in enumerate(labels.fields):
        high, wide = (round(n / field.stride) for n in CANVAS)
        out = np.zeros((6, high, wide), np.float32)
        for y, x in np.ndindex(high, wide):
            top, left = int(place.top / field.stride + 0.5), int(place.left / field.stride + 0.5)
            last_y = top + int(place.height / field.stride + 0.5)
            last_x = left + int(place.width / field.stride + 0.5)
            cy, cx = (y + 0.5) * field.stride, (x + 0.5) * field.stride
            anchor = np.array([cx - field.width / 2, cy - field.height / 2,
                               cx + field.width / 2, cy + field.height / 2])  # fmt: skip
            image = np.array([place.left, place.top, place.left + place.width,
                              place.top + place.height])  # fmt: skip
            skipped = not (top <= y < last_y and left <= x < last_x)
            if labels.margin is not None:
                mx, my = labels.margin * field.width / 2, labels.margin * field.height / 2
                skipped |= anchor[0] < image[0] - mx or anchor[2] >= image[2] + mx
                skipped |= anchor[1] < image[1] - my or anchor[3] >= image[3] + my
            elif labels.inside is not None:
                skipped |= overlap(anchor, image, e, "IOFU") < labels.inside
            covered = sum(overlap(anchor, region, e, "IOFU") for region in regions)
            over = covered >= labels.region_threshold
            if skipped or (labels.regions_first and over):
                out[5, y, x] = 1
                continue
            shared = [overlap(anchor, row[3:7], e) for row in rows]
            for g, value in enumerate(shared):
                if value > best[g][0]:
                    best[g] = (value, number)
            most = max(shared, default=0)
            out[5, y, x] = most
            if most > labels.threshold:
                row = rows[shared.index(most)]
                taken.add(shared.index(most))
                x1, y1, x2, y2 = row[3:7]
                out[:5, y, x] = [row[0] * (row[1] == 0), (x1 + x2) / 2, (y1 + y2) / 2,
                                 x2 - x1 + e, y2 - y1 + e]  # fmt: skip
            elif over:
                out[5, y, x] = 1
        maps.append(out)
    for g, row in enumerate(rows):
        value, number = best[g]
        if g in taken or row[1] or value < labels.pick_up:
            continue
        x1, y1, x2, y2 = row[3:7]
        stride = labels.fields[number].stride
        _, high, wide = maps[number].shape
        y = min(max(int((y1 + y2) / 2 // stride), 0), high - 1)
        x = min(max(int((x1 + x2) / 2 // stride), 0), wide - 1)
        if maps[number][0, y, x] > 0:
            continue
        maps[number][:5, y, x] = [row[0], (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1 + e, y2 - y1 + e]
        if not labels.regions_first:
            maps[number][5, y, x] = value
    return maps


def random_objects(seed: int, count: int = 6) -> Objects:
    rng = np.random.default_rng(seed)
    start = rng.uniform(-5, 50, (count + 2, 2))
    corners = np.concatenate([start, start + rng.uniform(6, 34, (count + 2, 2))], 1)
    labels = rng.integers(1, 4, (count, 1))
    flags = rng.integers(0, 4, (count, 2)) == 0
    rows = np.concatenate([labels, flags, corners[:count]], 1).astype(np.float32)
    return Objects(rows, corners[count:].astype(np.float32))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "options",
    [
        {"extra": 0, "regions_first": True, "pick_up": 0.2, "region_threshold": 0.4},
        {"extra": 1, "regions_first": False, "pick_up": 0.1, "region_threshold": 0.3},
        {"extra": 1, "regions_first": False, "pick_up": 0.9, "region_threshold": 9, "margin": 0.5},
        {"extra": 1, "regions_first": False, "pick_up": 0, "region_threshold": 9, "inside": 0.7},
    ],
)
def test_against_loops(seed: int, options: dict[str, float]) -> None:
    labels = FieldLabels(FIELDS, threshold=0.4, **options)  # type: ignore[arg-type]
    objects = random_objects(seed)
    for place in (Place(0, 0, *CANVAS), Place(7, 9, 30, 44)):
        made = labels.maps(objects, place, CANVAS)
        for have, want in zip(made, slow(labels, objects, place), strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)
        assert any((each[0] > 0).any() for each in made)


@pytest.mark.parametrize("seed", range(3))
def test_a_crowd_against_loops(seed: int) -> None:
    """Some objects find the cell that they would pick up taken; those after them pick up theirs."""
    labels = FieldLabels(FIELDS, 0.8, 9, 0.05, 1, regions_first=False)
    objects, place = random_objects(seed, count=60), Place(0, 0, *CANVAS)
    made = labels.maps(objects, place, CANVAS)
    for have, want in zip(made, slow(labels, objects, place), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-5)


def test_no_objects() -> None:
    empty = Objects(np.empty((0, 7), np.float32), np.empty((0, 4), np.float32))
    labels = FieldLabels(FIELDS, 0.5, 0.4, 0.2, 1, regions_first=False)
    for each in labels.maps(empty, Place(0, 0, *CANVAS), CANVAS):
        assert not each.any()
    assert FieldLabels((), 0.5, 0.4, 0.2, 1, False).maps(empty, Place(0, 0, 8, 8), (8, 8)) == []


def test_a_map_without_a_cell() -> None:
    labels = FieldLabels(FIELDS, 0.5, 0.4, 0.2, 1, regions_first=False)
    made = labels.maps(random_objects(0), Place(0, 0, 1, 1), (1, 1))
    assert [each.shape[1:] for each in made] == [field.map_size(1, 1) for field in FIELDS]
