from __future__ import annotations

import pytest
import torch

from moka.errors import NetError
from moka.layers.shapes import (
    as_rows,
    by,
    canonical_axis,
    refuse_empty_axes,
    require_axes,
    shape_text,
    sizes_around,
)
from moka.types import Shape


@pytest.mark.parametrize(
    ("axis", "shape", "extra", "expected"),
    [(0, (2, 3), 0, 0), (-1, (2, 3), 0, 1), (-2, (2, 3), 0, 0), (2, (2, 3), 1, 2), (0, (), 1, 0)],
)
def test_canonical_axis(axis: int, shape: Shape, extra: int, expected: int) -> None:
    assert canonical_axis(axis, shape, extra=extra) == expected


@pytest.mark.parametrize(("axis", "shape"), [(2, (2, 3)), (-3, (2, 3)), (0, ())])
def test_an_axis_that_does_not_exist(axis: int, shape: Shape) -> None:
    with pytest.raises(NetError, match=f"axis {axis} does not exist in a blob of shape"):
        canonical_axis(axis, shape)


@pytest.mark.parametrize(
    ("shape", "text"), [((64, 1, 28, 28), "64 1 28 28 (50176)"), ((), "(1)"), ((5,), "5 (5)")]
)
def test_shape_text(shape: Shape, text: str) -> None:
    assert shape_text(shape) == text


def test_sizes_around_an_axis() -> None:
    assert sizes_around((2, 3, 4, 5), -2) == (6, 4, 5)
    assert sizes_around((2,), 0) == (1, 2, 1)


def test_rows() -> None:
    assert as_rows(torch.ones(2, 3, 4)).shape == (2, 12)
    assert as_rows(torch.ones(2)).shape == (2, 1)


def test_checks() -> None:
    with pytest.raises(NetError, match=r"takes bottoms of at least 2 axes, got shape \(3,\)"):
        require_axes(2, (1, 2), (3,))
    with pytest.raises(NetError, match="only the batch may be empty"):
        refuse_empty_axes((1, 0), first=1)
    refuse_empty_axes((0, 1), first=1)


def test_sizes_in_words() -> None:
    assert by((7, 5)) == "7 x 5"
    assert by([3]) == "3"
