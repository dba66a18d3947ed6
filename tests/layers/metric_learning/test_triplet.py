from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

RNG = np.random.default_rng(3)
A, P, N, U, V = RNG.normal(size=(5, 4, 3))
KIND = 'type: "TripletLoss" triplet_loss_param'


def one(a: np.ndarray, p: np.ndarray, n: np.ndarray, margin: float, kind: int = 0) -> float:
    near, far = ((a - p) ** 2).sum(), ((a - n) ** 2).sum()
    return max(0.0, 1 - far / (near + margin) if kind else margin + near - far)


def test_triplets(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{KIND} {{ margin: 0.5 }}", A.shape, P.shape, N.shape)
    want = sum(one(*row, 0.5) for row in zip(A, P, N, strict=True)) / (2 * len(A))
    assert run(layer, A, P, N)[0] == pytest.approx(want)


def test_a_weight_for_each_triplet(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{KIND} {{ }}", A.shape, P.shape, N.shape, (4, 1))
    weights = np.array([0.5, 2, 0, 1])
    want = sum(w * one(a, p, n, 1.0) for w, a, p, n in zip(weights, A, P, N, strict=True)) / 8
    assert run(layer, A, P, N, weights[:, None])[0] == pytest.approx(want)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("more", [2, 3])
def test_with_pairs(make_layer: LayerMaker, run: Runner, kind: int, more: int) -> None:
    shapes = [x.shape for x in (A, P, N, U, V)] + [(4,)] * (more - 2)
    layer = make_layer(f"{KIND} {{ losstype: {kind} }}", *shapes)
    want = sum(one(*row, 1.0, kind) for row in zip(A, P, N, strict=True)) + ((U - V) ** 2).sum()
    bottoms = [A, P, N, U, V, *[np.ones(4)] * (more - 2)]
    assert run(layer, *bottoms)[0] == pytest.approx(want / 8)


@pytest.mark.parametrize("kind", [0, 1])
@pytest.mark.parametrize("pair", [0, 1])
@pytest.mark.parametrize("name", ["num_triplets", "num_negatives"])
def test_sets(make_layer: LayerMaker, run: Runner, kind: int, pair: int, name: str) -> None:
    x = RNG.normal(size=(10, 3))
    layer = make_layer(
        f"{KIND} {{ losstype: {kind} use_pair: {pair} {name}: 3 margin: 2 }}", x.shape, (10,)
    )
    want = 0.0
    for anchor, positive, *negatives in (x[:5], x[5:]):
        want += sum(one(anchor, positive, n, 2.0, kind) for n in negatives)
        want += pair * ((anchor - positive) ** 2).sum()
    assert run(layer, x, np.ones(10))[0] == pytest.approx(want / 4)


def test_gradients(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    check_gradient(make_layer(f"{KIND} {{ }}", *[A.shape] * 3), A, P, N)
    check_gradient(make_layer(f"{KIND} {{ losstype: 1 }}", *[A.shape] * 5), A, P, N, U, V)
    check_gradient(make_layer(f"{KIND} {{ num_triplets: 2 }}", A.shape), A)


def test_bad_input(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="same dimension"):
        make_layer(f"{KIND} {{ }}", (4, 3), (4, 2), (4, 3))
    with pytest.raises(NetError, match="same dimension"):
        make_layer(f"{KIND} {{ }}", (4, 3), (4, 3), (4, 3), (4, 2), (4, 3))
    with pytest.raises(NetError, match="same first dimension"):
        make_layer(f"{KIND} {{ }}", (4, 3), (4, 3), (4, 3), (3,))
    with pytest.raises(NetError, match="sets need num_triplets"):
        make_layer(f"{KIND} {{ }}", (4, 3))
    with pytest.raises(NetError, match="sets of 5, got 4"):
        make_layer(f"{KIND} {{ num_triplets: 3 }}", (4, 3))
