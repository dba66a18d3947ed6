"""Objects frame the same pixels on the canvas as on their image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from moka.data.batches import Batch, Loaded
from moka.data.field_labels import FieldLabels
from moka.data.object_canvas import CanvasBatches, CanvasOptions, boxes_table, move
from moka.data.object_lists import ListedImage, Objects
from moka.data.place import CursorState
from moka.data.transform import Transform
from moka.errors import DataError
from moka.schema import caffe_pb2, parse_text

HEIGHT, WIDTH = 60, 90
LEFT, TOP, RIGHT, BOTTOM = 20, 15, 50, 40  # of a white rectangle; the last pixels belong to it


class OneImage:
    path, noun = "(made)", "image"

    def __init__(self, *, bare: bool = False) -> None:
        row = [[2, 0, 1, LEFT, TOP, RIGHT, BOTTOM]]
        rows = np.array([] if bare else row, np.float32).reshape(-1, 7)
        self.objects = Objects(rows, np.empty((0, 4), np.float32))
        self.pixels = np.full((3, HEIGHT, WIDTH), 50, np.uint8)
        self.pixels[:, TOP : BOTTOM + 1, LEFT : RIGHT + 1] = 250

    def records(self, start: int, seed: int | None, step: int = 1) -> Iterator[ListedImage]:
        while True:
            yield ListedImage("it", (3, HEIGHT, WIDTH), self.objects)

    def load(self, records: Sequence[ListedImage]) -> Loaded:
        return Loaded([self.pixels] * len(records), [r.objects for r in records])

    def name(self, record: ListedImage) -> str:
        return record.path


def same(height: int, width: int, ratio: float) -> tuple[int, int]:
    return height, width


NO_LABELS = FieldLabels((), 0.5, 0.4, 0.2, 1, regions_first=False)
OPTIONS = CanvasOptions(
    same, same, lambda chosen, rng: (1, 1), NO_LABELS,
    boxes=partial(boxes_table, empty=(-1,) * 8, columns=8),
)  # fmt: skip


def batch(options: CanvasOptions, transform: str = "", count: int = 30, *, bare: bool = False,
          seed: int = 0) -> Batch:  # fmt: skip
    made = CanvasBatches(
        OneImage(bare=bare),
        Transform(parse_text(transform, caffe_pb2.TransformationParameter), training=True),
        batch_size=count,
        start=CursorState(0, seed),
        options=options,
    )
    return next(iter(made.stream(made.start)))[0]


def check(made: Batch, tolerance: float, brightest: float = 150) -> int:
    """Compare each box with the bright pixels of its canvas; returns how many were compared."""
    seen = 0
    for item, x1, y1, x2, y2, label, _, difficult in made.labels[:, :, 0, 0].tolist():
        canvas = made.data[int(item)]
        assert (label, difficult) == (2, 1)
        y, x = np.nonzero(canvas[0] > brightest)
        found = [x.min(), y.min(), x.max(), y.max()]
        corners = np.array([x1, y1, x2, y2])
        limit = np.array([canvas.shape[2], canvas.shape[1]] * 2) - 1
        np.testing.assert_allclose(corners.clip(0, limit), found, atol=tolerance)
        seen += 1
    return seen


def test_as_it_is() -> None:
    made = batch(OPTIONS, "mean_value: 50 scale: 2", 1)
    assert made.data.shape == (1, 3, HEIGHT, WIDTH)
    assert made.data[0, 0, 0, 0] == 0
    assert made.data[0, 0, TOP, LEFT] == 400
    assert check(made, 0) == 1


def test_mirrored() -> None:
    """Corners move as the forks move them: x to width - x, a pixel beside the mirrored one."""
    made = batch(OPTIONS, "mirror: true")
    assert check(made, 1) == 30
    assert len({row[1] for row in made.labels[:, :, 0, 0].tolist()}) == 2


def test_resized_and_cut_about_the_object() -> None:
    options = replace(
        OPTIONS, resize=lambda h, w, r: (2 * h, 3 * w), canvas=lambda h, w, r: (70, 70)
    )
    made = batch(options)
    assert made.data.shape == (30, 3, 70, 70)
    check(made, 3)
    assert len({tuple(row) for row in made.labels[:, 1:5, 0, 0].tolist()}) > 10  # moved by noise


def test_the_part_lies_about_the_center_of_the_object() -> None:
    """The center, 35 and 27.5, rounds to 35 and 28; the part begins half its side before it, moved
    by -10 to 9 pixels, but not past the edges of the image."""
    made = batch(replace(OPTIONS, canvas=lambda h, w, r: (30, 41)), count=200)
    left, top = made.labels[:, 1:3, 0, 0].T.astype(int)
    assert {LEFT - x for x in left} == {35 - 21 + noise for noise in range(-10, 10)}
    assert {TOP - y for y in top} == {28 - 15 + noise for noise in range(-10, 10)}


@pytest.mark.parametrize("factors", [(0.5, 0.5), (1.3, 0.8), (2, 2.5)])
def test_scaled(factors: tuple[float, float]) -> None:
    made = batch(replace(OPTIONS, rescale=lambda chosen, rng: factors))
    assert made.data.shape == (30, 3, HEIGHT, WIDTH)
    check(made, 3)
    if factors[0] < 1:
        assert (made.data[:, :, 0, 0] == 0).any()  # the canvas around the image


def test_a_canvas_larger_than_the_image_is_zero_around_it() -> None:
    options = replace(OPTIONS, canvas=lambda h, w, r: (100, 120))
    made = batch(options, "mean_value: 40")
    assert check(made, 0) == 30
    for canvas in made.data:
        assert (canvas[0] == 0).sum() == 100 * 120 - HEIGHT * WIDTH


def test_small_objects_and_those_beyond_the_canvas_are_ignored() -> None:
    wide, high = RIGHT - LEFT + 1, BOTTOM - TOP + 1
    for least, ignored in (((high, wide), 0), ((high + 1, 0), 1), ((0, wide + 1), 1)):
        made = batch(replace(OPTIONS, least=least), count=1)
        assert made.labels[0, 6, 0, 0] == ignored


def test_no_objects() -> None:
    made = batch(replace(OPTIONS, canvas=lambda h, w, r: (20, 30)), count=5, bare=True)
    assert made.labels.ravel().tolist() == [-1] * 8
    assert made.data.shape == (5, 3, 20, 30)


def test_mean_values_for_other_channels() -> None:
    with pytest.raises(DataError, match="as many as channels: 2 values for 3 channels"):
        batch(OPTIONS, "mean_value: 1 mean_value: 2", 1)


def test_the_same_seed_makes_the_same_batch() -> None:
    options = replace(OPTIONS, canvas=lambda h, w, r: (40, 40))
    one, two, three = (batch(options, "mirror: true", seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.data, two.data)
    np.testing.assert_array_equal(one.labels, two.labels)
    assert (one.data != three.data).any()


def test_move() -> None:
    objects = Objects(np.array([[1, 0, 0, 2, 3, 4, 5]], np.float32), np.ones((1, 4), np.float32))
    moved = move(objects, (2, 3), (10, 20))
    assert moved.rows.tolist() == [[1, 0, 0, 26, 16, 32, 20]]
    assert moved.regions.tolist() == [[23, 12, 23, 12]]
