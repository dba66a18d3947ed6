from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

BIAS = 'type: "BiasChannel" bias_channel_param'
ADAPTIVE = 'type: "AdaptiveBiasChannel" adaptive_bias_channel_param'


def test_spatial_product(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x, factor = spread(2, 3, 2, 2), spread(2, 1, 2, 2)
    layer = make_layer('type: "SpatialProduct"', x.shape, factor.shape)
    have = run(layer, x, factor)[0]
    for n, c, i, j in np.ndindex(have.shape):
        assert have[n, c, i, j] == x[n, c, i, j] * factor[n, 0, i, j]
    check_gradient(layer, x, factor)
    with pytest.raises(NetError, match=r"s \(N, 1, ...\)"):
        make_layer('type: "SpatialProduct"', (2, 3, 2, 2), (2, 3, 2, 2))


def test_unique_label(make_layer: LayerMaker, run: Runner) -> None:
    labels = np.array([[5, 2, 255, 2], [0, 255, 0, 0]]).reshape(2, 1, 2, 2)
    layer = make_layer(
        'type: "UniqueLabel" unique_label_param { max_labels: 4 ignore_label: 255 force_label: 0'
        " force_label: 7 }",
        labels.shape,
    )
    assert run(layer, labels)[0].reshape(2, 4).tolist() == [[0, 2, 5, 7], [0, 7, -1, -1]]
    with pytest.raises(DataError, match="image 1 has 5 labels, max_labels is 4"):
        run(layer, np.array([[0, 1, 1, 1], [1, 2, 3, 0]]).reshape(2, 1, 2, 2))
    with pytest.raises(NetError, match="At least one label more"):
        make_layer(
            'type: "UniqueLabel" unique_label_param { max_labels: 1 force_label: 0 }', (1, 1, 2, 2)
        )


def test_bias_of_an_image(
    make_layer: LayerMaker, run: Runner, spread: Spread, check_gradient: GradientCheck
) -> None:
    x, labels = spread(2, 4, 2, 3), np.array([[0, 2, -1], [3, 3, 255]])
    layer = make_layer(
        f"{BIAS} {{ bg_bias: 0.5 fg_bias: 2 ignore_label: 255 }}", x.shape, (2, 3, 1, 1)
    )
    want = x.copy()
    want[0, 0] += 0.5
    want[0, 2] += 2
    want[1, 3] += 4  # named twice
    np.testing.assert_allclose(run(layer, x, labels[..., None, None])[0], want)
    check_gradient(layer, x, labels[..., None, None])


@pytest.mark.parametrize("background", ["", "bg_bias: 0.5", "background_label: 2"])
def test_bias_of_pixels(
    make_layer: LayerMaker, run: Runner, spread: Spread, background: str
) -> None:
    x, labels = spread(1, 4, 1, 5), np.array([0, 2, 3, -1, 255]).reshape(1, 1, 1, 5)
    fields = f"label_type: PIXEL fg_bias: 3 ignore_label: 255 {background}"
    layer = make_layer(f"{BIAS} {{ {fields} }}", x.shape, labels.shape)
    want = x.copy()
    middle, amount = (2, 1.0) if "label" in background else (0, 0.5)
    for j, label in enumerate([0, 2, 3]):
        if background:
            want[0, middle, 0, j] += amount
        if not background or label != middle:
            want[0, label, 0, j] += 3
    np.testing.assert_allclose(run(layer, x, labels)[0], want)


def slow_adaptive(x: np.ndarray, labels: list[int], rounds: int, *, suppress: bool) -> np.ndarray:
    """One image (C, P) whose classes are risen in rising order."""
    y = x.copy()
    if suppress:
        for p in range(x.shape[1]):
            least = min(x[c, p] for c in labels)
            for c in range(len(x)):
                if c not in labels and x[c, p] > least:
                    y[c, p] = least - 0.25
    best = y[labels].max(0)
    before = best.mean()
    for _ in range(rounds):
        for c in sorted(labels):
            apart = sorted(best - y[c])
            y[c] += apart[int((0.6 if c else 0.3) * x.shape[1])]
            best = np.maximum(best, y[c])
    return y + before - best.mean()


@pytest.mark.parametrize("suppress", [True, False])
@pytest.mark.parametrize("rounds", [1, 3])
def test_adaptive_bias(make_layer: LayerMaker, run: Runner, rounds: int, *, suppress: bool) -> None:
    x = np.random.default_rng(2).normal(size=(3, 4, 2, 5))
    labels = np.array([[0, 2], [3, -1], [-1, -1]])
    layer = make_layer(
        f"{ADAPTIVE} {{ num_iter: {rounds} bg_portion: 0.3 fg_portion: 0.6 margin_others: 0.25"
        f" suppress_others: {str(suppress).lower()} }}",
        x.shape,
        labels.shape,
    )
    have = run(layer, x, labels)[0]
    for n, present in enumerate(([0, 2], [3])):
        want = slow_adaptive(x[n].reshape(4, 10), present, rounds, suppress=suppress)
        np.testing.assert_allclose(have[n].reshape(4, 10), want)
    np.testing.assert_array_equal(have[2], x[2])


def test_several_classes_come_in_a_random_order(make_layer: LayerMaker, run: Runner) -> None:
    x = np.random.default_rng(2).normal(size=(1, 4, 2, 5))
    layer = make_layer(f"{ADAPTIVE} {{ num_iter: 1 fg_portion: 0.9 }}", x.shape, (1, 3))
    found = set()
    for seed in range(10):
        torch.manual_seed(seed)
        found.add(run(layer, x, np.array([[1, 2, 3]]))[0].tobytes())
    assert len(found) > 1


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match=r"labels must be \(N, L\)"):
        make_layer(f"{BIAS} {{ }}", (2, 3, 2, 2), (2, 1, 2, 2))
    with pytest.raises(NetError, match=r"labels must be \(N, 1, H, W\)"):
        make_layer(f"{BIAS} {{ label_type: PIXEL }}", (2, 3, 2, 2), (2, 3))
    with pytest.raises(NetError, match="background_label 3 is not among the 3"):
        make_layer(f"{BIAS} {{ background_label: 3 }}", (2, 3, 2, 2), (2, 3))
    layer = make_layer(f"{BIAS} {{ }}", (2, 3, 2, 2), (2, 1))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, np.ones((2, 3, 2, 2)), np.array([[0], [3]]))
    with pytest.raises(NetError, match="two classes or more"):
        make_layer(f"{ADAPTIVE} {{ }}", (2, 1, 2, 2), (2, 1))
    with pytest.raises(NetError, match="fg_portion must be from 0 to 1"):
        make_layer(f"{ADAPTIVE} {{ fg_portion: 2 }}", (2, 2, 2, 2), (2, 1))
