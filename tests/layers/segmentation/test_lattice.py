from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.layers.segmentation.slow_lattice import slow_filter

from moka.errors import DataError
from moka.layers.segmentation.lattice import Lattice


@pytest.mark.parametrize(("d", "spread"), [(1, 5.0), (2, 4.0), (3, 3.0), (5, 2.0), (5, 20.0)])
def test_against_point_by_point(d: int, spread: float) -> None:
    rng = np.random.default_rng(d)
    points, values = rng.normal(size=(60, d)) * spread, rng.normal(size=(60, 3))
    have = Lattice(torch.tensor(points)).filter(torch.tensor(values))
    np.testing.assert_allclose(have, slow_filter(points, values), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("d", [2, 5])
def test_it_is_about_a_gaussian_mean(d: int) -> None:
    rng = torch.Generator().manual_seed(d)
    points = torch.rand(500, d, generator=rng) * 3
    values = (points * points.new_tensor(range(1, d + 1))).sin()
    lattice = Lattice(points)
    have = lattice.filter(values) / lattice.filter(torch.ones(500, 1))
    weights = (torch.cdist(points, points).square() / -2).exp()
    want = weights @ values / weights.sum(1, keepdim=True)
    assert float((have - want).abs().mean()) < 0.1 * float((values - want).abs().mean())


def test_bad_input() -> None:
    with pytest.raises(DataError, match="not finite"):
        Lattice(torch.tensor([[0.0, float("nan")]]))
    with pytest.raises(DataError, match="too far apart"):
        Lattice(torch.tensor([[0.0] * 5, [1e9] * 5]))
