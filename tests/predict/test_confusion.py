"""What a classifier takes for what."""

from __future__ import annotations

import pytest

from moka.errors import UsageError
from moka.predict.confusion import class_named, confusion

LABELS = ["n01440764 tench, Tinca tinca", "red_fox", "Arctic fox, white fox", "7"]


def test_matrix_accuracy_and_the_surest_mistakes() -> None:
    found = confusion([5, 5, 7, 9, 7], [5, 7, 7, 5, 5], [0.9, 0.4, 0.8, 0.6, 0.95])
    assert found.classes == [5, 7, 9]
    assert found.matrix.tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert (found.counts, found.right) == ([2, 2, 1], [1, 1, 0])
    assert found.accuracy == pytest.approx(0.4)
    assert found.worst == [4, 3, 1]


def test_lists_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="got 1, 0 and 1"):
        confusion([1], [], [0.5])
    with pytest.raises(UsageError, match="got 0, 0 and 0"):
        confusion([], [], [])


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("n01440764", 0),
        ("Tench", 0),
        ("n01440764 tench, Tinca tinca", 0),
        ("red fox", 1),
        ("Red-Fox", 1),
        ("arctic_fox", 2),
        ("7", 3),  # a label wins over a number
        ("2", 2),
        ("4", None),
        ("cat", None),
        ("", None),
    ],
)
def test_the_class_that_a_folder_means(name: str, number: int | None) -> None:
    assert class_named(name, LABELS, 4) == number
