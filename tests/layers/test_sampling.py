from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.sampling import bilinear
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner


def slow_sample(image: Array, row: float, column: float) -> float:
    """Each pixel weighs max(0, 1 - distance) along both axes."""
    total = 0.0
    for i, j in np.ndindex(image.shape):
        total += image[i, j] * max(0, 1 - abs(row - i)) * max(0, 1 - abs(column - j))
    return total


def slow_transform(x: Array, theta: Array, height: int, width: int) -> Array:
    y = np.zeros((*x.shape[:2], height, width))
    for n, c, i, j in np.ndindex(y.shape):
        p = np.array([2 * i / height - 1, 2 * j / width - 1, 1])
        u, v = theta[n].reshape(2, 3) @ p
        row, column = (u + 1) / 2 * x.shape[2], (v + 1) / 2 * x.shape[3]
        y[n, c, i, j] = slow_sample(x[n, c], row, column)
    return y


def test_outside_of_the_image_is_nothing() -> None:
    x = torch.ones(1, 1, 2, 2)
    rows = torch.tensor([[[-0.5, 1.5, 5.0]]])
    assert bilinear(x, rows, torch.zeros_like(rows)).flatten().tolist() == [0.5, 0.5, 0]


def test_the_identity_gives_the_image(make_layer: LayerMaker, run: Runner) -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 4))
    layer = make_layer('type: "SpatialTransformer"', x.shape, (1, 6))
    (y,) = run(layer, x, np.array([[1, 0, 0, 0, 1, 0]]))
    np.testing.assert_allclose(y, x, atol=1e-12)


@pytest.mark.parametrize("size", ["", "output_H: 5 output_W: 2"])
def test_an_affine_map(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, size: str
) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(2, 2, 3, 4))
    theta = np.array([1, 0, 0, 0, 1, 0]) + rng.normal(size=(2, 6)) * 0.3
    layer = make_layer(f'type: "SpatialTransformer" st_param {{ {size} }}', x.shape, theta.shape)
    (y,) = run(layer, x, theta)
    np.testing.assert_allclose(y, slow_transform(x, theta, *y.shape[2:]), atol=1e-12)
    check_gradient(layer, x, theta)


def test_entries_of_theta_may_be_given(make_layer: LayerMaker, run: Runner) -> None:
    rng = np.random.default_rng(3)
    x, free = rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(2, 2)) * 0.2
    layer = make_layer(
        'type: "SpatialTransformer" st_param { theta_1_1: 0.5 theta_1_2: 0 theta_2_1: 0'
        " theta_2_2: 0.5 }",
        x.shape,
        free.shape,
    )
    (y,) = run(layer, x, free)
    theta = np.array([[0.5, 0, a, 0, 0.5, b] for a, b in free])
    np.testing.assert_allclose(y, slow_transform(x, theta, 3, 4), atol=1e-12)


def test_images_may_stay_without_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer(
        'type: "SpatialTransformer" st_param { to_compute_dU: false }', (1, 1, 2, 2), (1, 6)
    )
    x, theta = torch.rand(1, 1, 2, 2, requires_grad=True), torch.rand(1, 6, requires_grad=True)
    layer(x, theta).sum().backward()
    assert x.grad is None
    assert theta.grad is not None


@pytest.mark.parametrize(
    ("fields", "theta", "message"),
    [
        ('transform_type: "projective"', (1, 6), 'transform_type must be affine, got "projective"'),
        ('sampler_type: "nearest"', (1, 6), 'sampler_type must be bilinear, got "nearest"'),
        ("theta_1_1: 1", (1, 6), r"theta must be \(N, 5\)"),
        ("", (2, 6), r"theta must be \(N, 6\) for N = 1 images"),
    ],
)
def test_bad_input(
    make_layer: LayerMaker, fields: str, theta: tuple[int, ...], message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "SpatialTransformer" st_param {{ {fields} }}', (1, 1, 2, 2), theta)


def test_transformer_is_zero_outside(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck
) -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2, 3, 4, 5))
    theta = np.array(
        [[0.93, 0.21, 0.117, -0.13, 1.11, 0.053], [1.31, 0.02, 0.037, 0.23, 0.71, -0.43]]
    )
    layer = make_layer('type: "Transformer"', x.shape, (2, 6, 1, 1))
    have = run(layer, x, theta[..., None, None])[0]
    outside = 0
    for n, c, i, j in np.ndindex(have.shape):
        u, v = theta[n].reshape(2, 3) @ [2 * i / 4 - 1, 2 * j / 5 - 1, 1]
        row, column = (u + 1) / 2 * 4, (v + 1) / 2 * 5
        want = 0.0
        if 0 <= row <= 3 and 0 <= column <= 4:
            for r in range(int(np.floor(row)), int(np.ceil(row)) + 1):
                for k in range(int(np.floor(column)), int(np.ceil(column)) + 1):
                    want += x[n, c, r, k] * (1 - abs(row - r)) * (1 - abs(column - k))
        else:
            outside += 1
        assert have[n, c, i, j] == pytest.approx(want)
    assert 10 < outside < 80
    check_gradient(layer, x, theta[..., None, None])


def test_transformer_of_a_wrong_theta(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"theta must be \(N, 6\) for N = 2"):
        make_layer('type: "Transformer"', (2, 3, 4, 5), (2, 5))
