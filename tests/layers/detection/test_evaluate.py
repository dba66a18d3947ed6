from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer

BOX, OTHER = [0.1, 0.1, 0.5, 0.5], [0.6, 0.6, 0.9, 0.9]
NEAR = [0.1, 0.1, 0.5, 0.45]
TRUTH = [[0, 1, 0, *BOX, 0], [0, 1, 1, *OTHER, 1], [1, 2, 0, *BOX, 0]]
FOUND = [
    [0, 1, 0.6, *NEAR],
    [0, 1, 0.9, *BOX],
    [0, 1, 0.5, *OTHER],
    [0, 2, 0.4, *BOX],
    [1, 2, 0.8, *OTHER],
    [2, 1, 0.3, *BOX],
]


def evaluate(fields: str = "") -> str:
    return f'type: "DetectionEvaluate" detection_evaluate_param {{ num_classes: 3 {fields} }}'


def rows_of(layer: Layer, found: list[list[float]], truth: list[list[float]]) -> list[list[float]]:
    bottoms = (torch.tensor(rows, dtype=torch.float64)[None, None] for rows in (found, truth))
    top = layer(*bottoms)
    assert isinstance(top, torch.Tensor)
    return [[round(value, 6) for value in row] for row in top[0, 0].tolist()]


def test_the_best_of_those_that_find_a_box_is_right(make_layer: LayerMaker) -> None:
    layer = make_layer(evaluate(), (1, 1, 6, 7), (1, 1, 3, 8))
    assert rows_of(layer, FOUND, TRUTH) == [
        [-1, 1, 2, -1, -1],
        [-1, 2, 1, -1, -1],
        [0, 1, 0.9, 1, 0],
        [0, 1, 0.6, 0, 1],
        [0, 1, 0.5, 1, 0],
        [0, 2, 0.4, 0, 1],
        [1, 2, 0.8, 0, 1],
        [2, 1, 0.3, 0, 1],
    ]


def test_difficult_boxes_may_count_neither_way(make_layer: LayerMaker) -> None:
    layer = make_layer(evaluate("evaluate_difficult_gt: false"), (1, 1, 6, 7), (1, 1, 3, 8))
    rows = rows_of(layer, FOUND, TRUTH)
    assert rows[0] == [-1, 1, 1, -1, -1]
    assert rows[4] == [0, 1, 0.5, 0, 0]


def test_threshold_and_rows_of_nothing(make_layer: LayerMaker) -> None:
    layer = make_layer(evaluate("overlap_threshold: 0.9"), (1, 1, 1, 7), (1, 1, 4, 8))
    nothing = [-1.0] * 8
    assert rows_of(layer, [[0, 1, 0.6, *NEAR]], [TRUTH[0], nothing, *TRUTH[1:]])[2:] == [
        [0, 1, 0.6, 0, 1]
    ]
    assert rows_of(layer, [[0, -1, -1, -1, -1, -1, -1]], TRUTH)[2:] == []


def test_boxes_in_pixels_of_the_original(make_layer: LayerMaker, tmp_path: Path) -> None:
    """Both corners count as pixels of the box then, so a small image makes overlaps larger."""
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("a 10 10\nb 10 10\nc 10 10\n")
    fields = f'overlap_threshold: 0.89 name_size_file: "{sizes}"'
    layer = make_layer(evaluate(fields), (1, 1, 1, 7), (1, 1, 3, 8))
    assert rows_of(layer, [[0, 1, 0.6, *NEAR]], TRUTH)[2:] == [[0, 1, 0.6, 1, 0]]


def test_form_of_cascade_rcnn(make_layer: LayerMaker, tmp_path: Path) -> None:
    sizes = tmp_path / "sizes.txt"
    sizes.write_text("a 100 100\nb 100 200\n")
    text = evaluate(f'name_size_file: "{sizes}"')
    shapes = (4, 7, 1, 1), (3, 8, 1, 1), (2, 2, 1, 1)
    found = [
        [0, 0, 0, 19, 19, 1, 0.9],
        [1, 0, 0, 19, 19, 2, 0.8],
        [1, 50, 50, 60, 60, 2, 0.7],
        [1, 0, 0, 0, 0, -1, 0],
    ]
    truth = [
        [0, 0, 0, 19, 18, 1, 0, 0],
        [1, 0, 0, 18, 19, 2, 0, 0],
        [-1, 0, 0, 0, 0, 0, 0, 0],
    ]
    blobs = [np.array(v, float).reshape(s) for v, s in zip((found, truth), shapes, strict=False)]
    bottoms = [*blobs, np.full((2, 2, 1, 1), 50.0)]
    top = make_layer(text, *shapes)(*map(torch.from_numpy, bottoms))
    assert isinstance(top, torch.Tensor)
    assert top.shape == (5, 5, 1, 1)
    assert [[round(v, 6) for v in row] for row in top[..., 0, 0].tolist()] == [
        [-1, 1, 1, -1, -1],
        [-1, 2, 1, -1, -1],
        [0, 1, 0.9, 1, 0],
        [1, 2, 0.8, 1, 0],
        [1, 2, 0.7, 0, 1],
    ]


def test_without_the_list_of_images_boxes_are_compared_as_they_come(
    make_layer: LayerMaker, caplog: pytest.LogCaptureFixture
) -> None:
    layer = make_layer(evaluate('name_size_file: "none.txt"'), (1, 1, 1, 7), (1, 1, 3, 8))
    plain = make_layer(evaluate(), (1, 1, 1, 7), (1, 1, 3, 8))
    found = [[0, 1, 0.5, *BOX]]
    assert rows_of(layer, found, TRUTH) == rows_of(plain, found, TRUTH)
    assert "none.txt: no such file; boxes are compared without images' sizes." in caplog.text


@pytest.mark.parametrize(
    ("shapes", "width"),
    [(((4, 6), (3, 8), (2, 2)), 7), (((4, 7), (3, 7), (2, 2)), 8), (((4, 7), (3, 8), (2,)), 2)],
)
def test_rows_of_cascade_rcnns_form(
    make_layer: LayerMaker, tmp_path: Path, shapes: tuple[tuple[int, ...], ...], width: int
) -> None:
    (tmp_path / "sizes.txt").write_text("a 100 100\n")
    with pytest.raises(NetError, match=f"needs rows of {width}, got shape"):
        make_layer(evaluate(f'name_size_file: "{tmp_path}/sizes.txt"'), *shapes)


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="1 1 K 7"):
        make_layer(evaluate(), (1, 1, 3, 6), (1, 1, 3, 8))
    with pytest.raises(NetError, match="name_size_file is needed"):
        make_layer(evaluate(), (4, 7), (3, 8), (2, 2))
    layer = make_layer(evaluate(), (1, 1, 1, 7), (1, 1, 3, 8))
    with pytest.raises(DataError, match="background label in the detection results"):
        rows_of(layer, [[0, 0, 0.5, *BOX]], TRUTH)
