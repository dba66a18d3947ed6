from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError
from moka.layers.bilinear import CompactBilinear
from moka.layers.c_random import rand

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

RNG = np.random.default_rng(5)
A, B = RNG.normal(size=(2, 3, 2, 3)), RNG.normal(size=(2, 5, 2, 3))
COMPACT = 'type: "CompactBilinear" compact_bilinear_param'


def test_bilinear(make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck) -> None:
    layer = make_layer('type: "Bilinear"', A.shape, B.shape)
    (have,) = run(layer, A, B)
    for n in range(2):
        for c in range(3):
            for d in range(5):
                want = sum(A[n, c, i, j] * B[n, d, i, j] for i in range(2) for j in range(3))
                assert have[n, c * 5 + d, 0, 0] == pytest.approx(want)
    check_gradient(layer, A, B)


def slow_compact(a: np.ndarray, b: np.ndarray, n: int) -> np.ndarray:
    """(N, n, H, W), pair by pair, as Gao et al. define it; times n."""
    drawn = list(islice(rand(1), 2 * (a.shape[1] + b.shape[1])))
    g, s = drawn[: a.shape[1]], drawn[a.shape[1] : 2 * a.shape[1]]
    h, t = drawn[2 * a.shape[1] :][: b.shape[1]], drawn[-b.shape[1] :]
    y = np.zeros((len(a), n, *a.shape[2:]))
    for c in range(a.shape[1]):
        for d in range(b.shape[1]):
            sign = (1 if s[c] % 2 else -1) * (1 if t[d] % 2 else -1)
            y[:, (g[c] + h[d]) % n] += n * sign * a[:, c] * b[:, d]
    return y


@pytest.mark.parametrize("n", [1, 4, 7, 40])
def test_compact_bilinear(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, n: int
) -> None:
    want = slow_compact(A, B, n)
    layer = make_layer(f"{COMPACT} {{ num_output: {n} }}", A.shape, B.shape)
    pooled = want.sum((2, 3), keepdims=True)
    np.testing.assert_allclose(run(layer, A, B)[0], pooled, rtol=1e-10, atol=1e-10)
    check_gradient(layer, A, B)
    layer = make_layer(f"{COMPACT} {{ num_output: {n} sum_pool: false }}", A.shape, B.shape)
    np.testing.assert_allclose(run(layer, A, B)[0], want, rtol=1e-10, atol=1e-10)
    check_gradient(layer, A, B)


def test_hashes_of_the_fork(make_layer: LayerMaker) -> None:
    """rand() after srand(1) begins with 1804289383, 846930886, 1681692777, 1714636915."""
    layer = make_layer(f"{COMPACT} {{ num_output: 10 }}", (1, 2, 1, 1), (1, 1, 1, 1))
    assert isinstance(layer, CompactBilinear)
    (g, h), (s, t) = layer.hashes, layer.signs
    assert (g.tolist(), s.tolist()) == ([3, 6], [1, 1])
    assert (h.tolist(), t.tolist()) == ([1957747793 % 10], [424238335 % 2 * 2 - 1])


def test_bad_input(make_layer: LayerMaker) -> None:
    for text in ('type: "Bilinear"', f"{COMPACT} {{ num_output: 4 }}"):
        with pytest.raises(NetError, match="one number and size of images"):
            make_layer(text, A.shape, (2, 5, 3, 2))
        with pytest.raises(NetError, match="takes images"):
            make_layer(text, (2, 3), (2, 3))
    with pytest.raises(NetError, match="num_output is missing"):
        make_layer(f"{COMPACT} {{ }}", A.shape, B.shape)


@pytest.mark.parametrize(
    ("a", "b", "subscripts"),
    [
        ((2, 3), (3, 4), "ij,jk->ik"),
        ((5, 2, 3), (3, 4), "nij,jk->nik"),
        ((2, 3), (5, 3, 4), "ij,njk->nik"),
        ((5, 2, 3), (5, 3, 4), "nij,njk->nik"),
    ],
)
def test_matrix_multiplication(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    a: tuple[int, ...],
    b: tuple[int, ...],
    subscripts: str,
) -> None:
    layer = make_layer('type: "MatrixMultiplication"', a, b)
    x, y = spread(*a), spread(*b)
    wanted = np.einsum(subscripts, x, y)
    np.testing.assert_allclose(run(layer, x, y)[0], wanted, rtol=1e-11, atol=1e-12)
    check_gradient(layer, x, y)


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ((2, 3), (2, 3), r"matrices of shapes \(2, 3\) and \(2, 3\) cannot be multiplied"),
        ((4, 2, 3), (5, 3, 2), "cannot be multiplied"),
        ((2,), (2, 3), r"multiplies \(M, K\) or \(B, M, K\), got a bottom of shape \(2,\)"),
    ],
)
def test_matrices_that_do_not_fit(
    make_layer: LayerMaker, a: tuple[int, ...], b: tuple[int, ...], told: str
) -> None:
    with pytest.raises(NetError, match=told):
        make_layer('type: "MatrixMultiplication"', a, b)
