"""Points in a plane, by their principal components."""

from __future__ import annotations

import numpy as np
import pytest

from moka.errors import UsageError
from moka.predict.components import principal_components
from moka.types import Array


def distances(points: Array) -> Array:
    """Between all pairs of points."""
    between: Array = np.linalg.norm(points[:, None] - points[None], axis=2)
    return between


def test_distances_in_a_plane_are_kept() -> None:
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(20, 2)) * (5, 1)
    turned = np.linalg.qr(rng.normal(size=(7, 7)))[0][:2]
    found = principal_components(plane @ turned + 3)
    assert found.shape == (20, 2)
    np.testing.assert_allclose(distances(found), distances(plane), atol=1e-5)
    assert found[:, 0].std() > found[:, 1].std()


def test_the_sign_does_not_depend_on_chance() -> None:
    points = np.random.default_rng(1).normal(size=(9, 4))
    found = principal_components(points)
    assert (found[np.abs(found).argmax(0), [0, 1]] > 0).all()


def test_few_points_and_few_features() -> None:
    assert principal_components([[1.0], [3.0]]).tolist() in ([[1, 0], [-1, 0]], [[-1, 0], [1, 0]])
    assert principal_components(np.ones((3, 4))).tolist() == [[0, 0]] * 3
    with pytest.raises(UsageError, match="at least two points, got 1"):
        principal_components([[1.0, 2.0]])
