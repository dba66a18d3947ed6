from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch

from moka.layers.detection.regression import (
    Bounds,
    DeltaStatistics,
    boxes_of,
    field_boxes,
    field_centers,
    limited,
    region_boxes,
)

SCALE = DeltaStatistics((0.1, 0.2, 0.3, 0.4), (1, 2, 3, 4))


@pytest.mark.parametrize("axis", [-1, 1])
def test_stored_deltas(axis: int) -> None:
    deltas = torch.ones(2, 4, 4, dtype=torch.float64)
    stored = SCALE.store(deltas, axis).movedim(axis, -1)
    want = [0.9, 0.4, 0.7 / 3, 0.15]
    np.testing.assert_allclose(stored, np.broadcast_to(want, (2, 4, 4)))
    torch.testing.assert_close(SCALE.restore(SCALE.store(deltas, axis), axis), deltas)


def test_bounds() -> None:
    bounds = Bounds(xyr=2, whr=3)
    have = bounds.clamp(torch.tensor([[-9.0, 9, -9, 9], [0.4, -0.4, 1, -1]]))
    torch.testing.assert_close(
        have, torch.tensor([[-0.5, 0.5, -log(3), log(3)], [0.4, -0.4, 1, -1]])
    )


def test_bounds_of_stored_deltas_share_one_mean_and_spread() -> None:
    centers, sizes = Bounds(2, 3).stored(SCALE)
    np.testing.assert_allclose(centers, np.array([-0.5 - 0.15, 0.5 - 0.15]) / 2**0.5)
    np.testing.assert_allclose(sizes, np.array([-log(3) - 0.35, log(3) - 0.35]) / 12**0.5)


def test_the_gradient_knows_no_limit() -> None:
    x = torch.tensor([5.0, 0.5, -5, 0]).view(1, 4, 1, 1).requires_grad_()
    y = limited(x, ((-1, 1), (-2, 2)))
    assert y.flatten().tolist() == [1, 0.5, -2, 0]
    torch.autograd.backward(y.sum())
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 1, 1, 1]


def test_fields() -> None:
    centers = field_centers(2, 3, 8, torch.zeros(1))
    assert centers[0].tolist() == [[4, 12, 20]] * 2
    assert centers[1].tolist() == [[4] * 3, [12] * 3]
    deltas = torch.zeros(1, 4, 2, 3)
    deltas[0, :, 1, 2] = torch.tensor([0.5, -0.25, log(2), 0])
    center, size = field_boxes(deltas, torch.tensor([[10.0, 20]]), 8)
    torch.testing.assert_close(center[0, :, 1, 2], torch.tensor([25.0, 7]))
    torch.testing.assert_close(size[0, :, 1, 2], torch.tensor([20.0, 20]))
    assert center[0, :, 0, 0].tolist() == [4, 4]


def test_regions() -> None:
    rois = torch.tensor([[10.0, 10, 19, 29]])
    same = region_boxes(torch.zeros(1, 1, 4), rois)
    assert same[0].tolist() == [[10, 10, 19, 29]]
    moved = region_boxes(torch.tensor([[[1, 0, log(2), 0]]]), rois)
    torch.testing.assert_close(moved[0], torch.tensor([[15.0, 10, 34, 29]]))
    box = boxes_of(torch.tensor([[1.0, 2]]), torch.tensor([[3.0, 4]]))
    assert box.tolist() == [[1, 2, 3, 5]]
