from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow

from moka.errors import DataError, NetError
from moka.layers.detection import objects
from moka.layers.detection.boxes import corners


def test_rows_of_five() -> None:
    labels = torch.zeros(3, 3, 5)
    labels[0, 0] = torch.tensor([1, 0.5, 0.25, 0.5, 0.125])
    labels[0, 1] = torch.tensor([2, 0.25, 0.5, 0.25, 0.5])
    labels[1, 1] = torch.tensor([2, 0.25, 0.5, 0.25, 0.5])  # behind the end
    labels[2, 0] = torch.tensor([2, 0.25, 0.5, 0, 0.5])  # no width: the end
    found = objects.read_objects(labels.view(3, 15), 3, 3)
    assert found.image.tolist() == [0, 0]
    assert found.label.tolist() == [1, 2]
    assert found.center.tolist() == [[0.5, 0.25], [0.25, 0.5]]
    assert found.size.tolist() == [[0.5, 0.125], [0.25, 0.5]]


def test_rows_of_ssd() -> None:
    rows = torch.tensor(
        [
            [1, 3, 0, 0.25, 0.5, 0.75, 1, 0],
            [0, 1, 0, 0, 0.25, 0.5, 0.75, 1],
            [-1, 1, 0, 0, 0, 1, 1, 0],
            [0, 2, 0, 0.5, 0.5, 0.5, 1, 0],
        ]
    )
    found = objects.read_objects(rows.view(1, 1, 4, 8), 3, 2)
    assert found.image.tolist() == [0, 1]
    assert found.label.tolist() == [0, 2]
    assert found.boxes.tolist() == [[0, 0.25, 0.5, 0.75], [0.25, 0.5, 0.75, 1]]


def test_a_label_that_is_no_class() -> None:
    labels = torch.tensor([[3, 0.5, 0.5, 0.1, 0.1]])
    with pytest.raises(DataError, match=r"label 3 is outside of the 3 classes"):
        objects.read_objects(labels, 3, 1)


def test_boxes_without_an_area_are_left_out() -> None:
    labels = torch.tensor([[1, 0.5, 0.5, 0.1, 0, 9, 0.5, 0.5, -0.1, 0.1, 2, 0.5, 0.5, 0.1, 0.1]])
    assert objects.read_objects(labels, 3, 1).label.tolist() == [2]


def test_boxes_that_are_not_finite() -> None:
    for value in (np.nan, np.inf):
        labels = torch.tensor([[1, 0.5, 0.5, value, 0.1]])
        with pytest.raises(DataError, match="a true box has a number that is not finite"):
            objects.read_objects(labels, 3, 1)


def test_an_image_that_is_not_there() -> None:
    row = torch.tensor([2, 1, 0, 0.25, 0.5, 0.75, 1, 0]).view(1, 1, 1, 8)
    with pytest.raises(DataError, match="a true box belongs to image 2 of 2, from 0 on"):
        objects.read_objects(row, 3, 2)


@pytest.mark.parametrize("shape", [(2, 7), (3, 10), (10,)])
def test_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(NetError, match="true boxes are 5 numbers each"):
        objects.check_objects(shape, 2)
    objects.check_objects((2, 10), 2)
    objects.check_objects((1, 1, 9, 8), 2)


def test_cells_lie_on_the_grid() -> None:
    center = torch.tensor([[0.0, 0.99], [0.5, 0.5], [1.0, 1.0]])
    found = objects.Objects(torch.zeros(3), torch.zeros(3), center, center)
    row, column = objects.cells_of(found, 3, 4)
    assert row.tolist() == [2, 1, 2]
    assert column.tolist() == [0, 2, 3]


def test_nearest() -> None:
    rng = np.random.default_rng(0)
    center, size = rng.uniform(0.2, 0.8, (5, 2)), rng.uniform(0.1, 0.5, (5, 2))
    image = [0, 0, 2, 2, 2]
    true = objects.Objects(
        torch.tensor(image), torch.zeros(5), torch.tensor(center), torch.tensor(size)
    )
    others = rng.uniform(0.2, 0.6, (3, 2, 2, 4))
    boxes = corners(torch.tensor(others[..., :2]), torch.tensor(others[..., 2:]))
    have = objects.largest_overlap(boxes, true)
    for index in np.ndindex(3, 2, 2):
        want = [
            slow.overlap(tuple(others[index]), (*center[k], *size[k]))
            for k in range(5)
            if image[k] == index[0]
        ]
        assert float(have[index]) == pytest.approx(max(want, default=0))


def test_last_of() -> None:
    key = torch.tensor([3, 1, 3, 0, 1])
    assert objects.last_of(key, 4).tolist() == [False, False, True, True, True]
    assert objects.last_of(key[:0], 4).tolist() == []
