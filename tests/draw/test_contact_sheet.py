from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from moka.draw.contact_sheet import BACKGROUND, CAPTION, CELL, GAP, contact_sheet, picture

RANDOM = np.random.default_rng(8)


def test_pictures_of_bytes() -> None:
    color = RANDOM.integers(0, 256, (3, 4, 5), np.uint8)
    np.testing.assert_array_equal(picture(color), color.transpose(1, 2, 0))
    gray = RANDOM.integers(0, 256, (1, 4, 5), np.uint8)
    np.testing.assert_array_equal(picture(gray), np.stack([gray[0]] * 3, -1))
    pair = RANDOM.integers(0, 256, (2, 4, 5), np.uint8)
    np.testing.assert_array_equal(picture(pair)[..., 0], np.hstack([pair[0], pair[1]]))


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([5.0, 5.0, 5.0], [0, 0, 0]),
        ([np.nan, 1.0, 2.0], [0, 128, 255]),
        ([np.inf, -np.inf, 2.0], [0, 0, 255]),
    ],
)
def test_other_numbers_are_stretched(values: list[float], shown: list[int]) -> None:
    image = np.array(values, np.float32).reshape(1, 1, 3)
    assert picture(image)[0, :, 0].tolist() == shown


def cell(sheet: NDArray[Any], row: int, column: int) -> NDArray[Any]:
    y, x = GAP + row * (CELL + CAPTION + GAP), GAP + column * (CELL + GAP)
    return sheet[y : y + CELL, x : x + CELL]


@pytest.mark.parametrize(("count", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (5, 2, 3), (9, 3, 3)])
def test_rows_and_columns(count: int, rows: int, columns: int) -> None:
    images = [np.full((1, 2, 2), i, np.uint8) for i in range(count)]
    sheet = contact_sheet(images, [""] * count)
    assert sheet.shape == (
        rows * (CELL + CAPTION + GAP) + GAP,
        columns * (CELL + GAP) + GAP,
        3,
    )
    for i in range(count):
        assert (cell(sheet, i // columns, i % columns) == i).all()
    for i in range(count, rows * columns):
        assert (cell(sheet, i // columns, i % columns) == BACKGROUND).all()


def test_small_images_grow_by_a_whole_factor_and_large_ones_shrink() -> None:
    small = RANDOM.integers(0, 256, (1, 3, 50), np.uint8)
    sheet = contact_sheet([small], [""])
    np.testing.assert_array_equal(
        cell(sheet, 0, 0)[:6, :100, 0], small[0].repeat(2, 0).repeat(2, 1)
    )
    large = np.full((3, 2 * CELL, 4 * CELL), 9, np.uint8)
    shrunk = cell(contact_sheet([large], [""]), 0, 0)
    assert (shrunk[: CELL // 2] == 9).all()
    assert (shrunk[CELL // 2 : CELL // 2] == BACKGROUND).all()
    assert contact_sheet([np.zeros((1, 1, 5000), np.uint8)], [""]).shape[1] == CELL + 2 * GAP


def colors_of(image: NDArray[Any], *boxes: tuple[float, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The sheet's first cell, and where a box (label, corners) has changed it."""
    rows = np.array([(label, 0, *corners, 0) for label, *corners in boxes], np.float32)
    plain, drawn = (cell(contact_sheet([image], [""], r), 0, 0) for r in (None, [rows]))
    return drawn, (plain != drawn).any(-1)


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_boxes_are_thin_rectangles(factor: int) -> None:
    """At any scale."""
    image = np.full((3, factor * CELL // 2, factor * CELL // 2), 99, np.uint8)
    _, changed = colors_of(image, (1, 0.25, 0.5, 0.75, 1))
    wanted = np.zeros((CELL, CELL), np.bool_)
    wanted[CELL // 2 :, CELL // 4 : CELL * 3 // 4] = True
    wanted[CELL // 2 + 1 : -1, CELL // 4 + 1 : CELL * 3 // 4 - 1] = False
    np.testing.assert_array_equal(changed, wanted)


def test_each_label_has_its_color() -> None:
    image = np.zeros((1, CELL, CELL), np.uint8)
    boxes = [(i, i / 32, 0, (i + 1) / 32, 1) for i in (*range(21), 3)]
    drawn, changed = colors_of(image, *boxes)
    assert len(np.unique(drawn[changed], axis=0)) == 21


def test_boxes_beyond_the_image_and_without_area() -> None:
    image = np.zeros((1, CELL, CELL), np.uint8)
    _, changed = colors_of(image, (1, -1, 0.5, 1e9, 7), (1, 0.5, 0.1, 0.2, 0.2), (1, 2, 2, 3, 3),
                           (1, np.nan, 0, 0.1, 0.1))  # fmt: skip
    assert np.argwhere(changed).min(0).tolist() == [CELL // 2, 0]
    assert changed.sum() == 2 * CELL + 2 * (CELL // 2) - 4
    _, changed = colors_of(image, (1, 0.999, 0.999, 1, 1))
    assert changed.sum() <= 4


def test_boxes_on_each_of_several_channels() -> None:
    _, changed = colors_of(np.zeros((2, CELL // 2, CELL // 2), np.uint8), (1, 0, 0, 0.5, 0.5))
    np.testing.assert_array_equal(changed[:, : CELL // 2], changed[:, CELL // 2 :])
    assert changed.any()


def test_a_caption_stands_below_its_image() -> None:
    plain, said = (contact_sheet([np.zeros((1, 2, 2), np.uint8)] * 2, [t, ""]) for t in ("", "7"))
    changed = np.argwhere((plain != said).any(-1))
    assert len(changed)
    assert changed[:, 0].min() >= GAP + CELL
    assert changed[:, 1].max() < GAP + CELL
