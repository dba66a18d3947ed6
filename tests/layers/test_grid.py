from __future__ import annotations

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.grid import apply_grid, centered_weights, nearest_pixels, pick_grid, require_images


def test_weights_work_on_rows_and_columns() -> None:
    rng = np.random.default_rng(3)
    x, rows, columns = (
        rng.normal(size=(2, 3, 4, 5)),
        rng.normal(size=(6, 4)),
        rng.normal(size=(2, 5)),
    )
    y = apply_grid(torch.from_numpy(x), torch.from_numpy(rows), torch.from_numpy(columns))
    wanted = np.einsum("ia,jb,ncab->ncij", rows, columns, x)
    np.testing.assert_allclose(y, wanted, rtol=1e-11, atol=1e-12)  # both in double precision


def test_pixels_are_picked() -> None:
    x = torch.arange(12.0).reshape(1, 1, 3, 4)
    picked = pick_grid(x, torch.tensor([2, 0]), torch.tensor([1, 1, 3]))
    assert picked[0, 0].tolist() == [[9, 9, 11], [1, 1, 3]]


@pytest.mark.parametrize("size", range(1, 8))
@pytest.mark.parametrize("out", range(1, 15))
def test_the_nearest_pixel_and_of_two_the_second(size: int, out: int) -> None:
    found = nearest_pixels(size, out).tolist()
    for i in range(out):
        # Distances in units of 1 / (2 out), whole numbers.
        distances = [abs((2 * i + 1) * size - out - 2 * out * j) for j in range(size)]
        best = max(j for j in range(size) if distances[j] == min(distances))
        assert found[i] == best


@pytest.mark.parametrize("kind", ["LINEAR", "CUBIC"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize(("size", "out"), [(4, 8), (5, 3), (7, 7), (3, 1), (1, 4), (9, 2)])
def test_weights_add_up_to_one(kind: str, antialias: bool, size: int, out: int) -> None:
    weights = centered_weights(size, out, kind, antialias=antialias)
    assert weights.shape == (out, size)
    sums = weights.sum(1)
    missed = (weights == 0).all(1)  # by a kernel narrower than a pixel
    np.testing.assert_allclose(sums, np.where(missed, 0, 1), rtol=1e-14)  # double precision
    assert not missed.any() or (antialias and out > size)


def test_a_grid_of_the_same_size_is_the_identity() -> None:
    for kind in ("LINEAR", "CUBIC"):
        weights = centered_weights(5, 5, kind, antialias=True)
        np.testing.assert_allclose(weights, np.eye(5), atol=1e-15)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 4), r"takes images \(N, C, H, W\), got"),
        ((2, 3, 0, 4), "only the batch may be empty"),
    ],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    require_images((0, 3, 4, 4))
    with pytest.raises(NetError, match=message):
        require_images((1, 1, 1, 1), shape)
