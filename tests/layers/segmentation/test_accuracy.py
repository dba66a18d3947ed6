from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

CLASSES = 4


def slow_scores(pairs: list[tuple[int, int]]) -> list[float]:
    """Of (label, predicted) for each pixel."""
    right = sum(label == found for label, found in pairs)
    recalls, overlaps = [], []
    for c in range(CLASSES):
        hits = sum(pair == (c, c) for pair in pairs)
        labeled = sum(label == c for label, _ in pairs)
        either = sum(c in pair for pair in pairs)
        if labeled:
            recalls.append(hits / labeled)
        overlaps.append(hits / either if either else 1.0)
    recall = sum(recalls) / len(recalls) if recalls else 0.0
    return [right / len(pairs) if pairs else 0.0, recall, sum(overlaps) / CLASSES]


def data(seed: int, *, labels: int = CLASSES) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (2, CLASSES, 3, 4)).astype(float)  # with ties
    return x, rng.integers(0, labels, (2, 1, 3, 4)).astype(float)


def pairs_of(x: Array, labels: Array, ignored: tuple[int, ...] = ()) -> list[tuple[int, int]]:
    """Of equal scores the last is the class."""
    pairs = []
    for n, i, j in np.ndindex(len(x), *x.shape[2:]):
        scores, label = x[n, :, i, j], int(labels[n, 0, i, j])
        if label not in ignored:
            pairs.append((label, max(range(CLASSES), key=lambda c: (scores[c], c))))
    return pairs


def test_scores(make_layer: LayerMaker, run: Runner) -> None:
    x, labels = data(0, labels=2)  # two classes have no label
    layer = make_layer('type: "SegAccuracy"', x.shape, labels.shape)
    (y,) = run(layer, x, labels)
    assert y.shape == (1, 1, 1, 3)
    np.testing.assert_allclose(y.ravel(), slow_scores(pairs_of(x, labels)))


def test_a_class_that_never_occurs_counts_as_whole(make_layer: LayerMaker, run: Runner) -> None:
    x = np.zeros((1, CLASSES, 1, 1))
    x[0, 1] = 1
    layer = make_layer('type: "SegAccuracy"', x.shape, (1, 1, 1, 1))
    (y,) = run(layer, x, np.ones((1, 1, 1, 1)))
    assert y.ravel().tolist() == [1, 1, 1]


def test_ignored_labels(make_layer: LayerMaker, run: Runner) -> None:
    x, labels = data(1)
    labels[0, 0, 0] = 255
    layer = make_layer(
        'type: "SegAccuracy" seg_accuracy_param { ignore_label: 255 ignore_label: 1 }',
        x.shape,
        labels.shape,
    )
    (y,) = run(layer, x, labels)
    np.testing.assert_allclose(y.ravel(), slow_scores(pairs_of(x, labels, (255, 1))))
    (y,) = run(layer, x, np.full_like(labels, 255))
    assert y.ravel().tolist() == [0, 0, 1]


def test_counts_go_on_without_reset(make_layer: LayerMaker, run: Runner) -> None:
    first, second = data(2), data(3)
    text = 'type: "SegAccuracy" seg_accuracy_param { reset: false }'
    layer = make_layer(text, first[0].shape, first[1].shape)
    run(layer, *first)
    both = slow_scores(pairs_of(*first) + pairs_of(*second))
    state = [tensor.clone() for tensor in layer.run_state()]
    (y,) = run(layer, *second)
    np.testing.assert_allclose(y.ravel(), both)
    again = layer.again(*map(torch.from_numpy, second))
    np.testing.assert_allclose(again.numpy().ravel(), both)  # type: ignore[union-attr]
    resumed = make_layer(text, first[0].shape, first[1].shape)
    resumed.load_run_state(state)
    (y,) = run(resumed, *second)
    np.testing.assert_allclose(y.ravel(), both)


def test_with_reset_each_pass_counts_alone(make_layer: LayerMaker, run: Runner) -> None:
    first, second = data(2), data(3)
    layer = make_layer('type: "SegAccuracy"', first[0].shape, first[1].shape)
    run(layer, *first)
    assert layer.run_state() == []
    (y,) = run(layer, *second)
    np.testing.assert_allclose(y.ravel(), slow_scores(pairs_of(*second)))


def test_a_label_that_is_no_class(make_layer: LayerMaker, run: Runner) -> None:
    x, labels = data(0)
    labels[0, 0, 0, 0] = 255
    layer = make_layer('type: "SegAccuracy"', x.shape, labels.shape)
    with pytest.raises(DataError, match="label 255 is outside of the 4 classes"):
        run(layer, x, labels)


def test_labels_of_another_size(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"labels \(N, 1, H, W\)"):
        make_layer('type: "SegAccuracy"', (2, 4, 3, 4), (2, 1, 3, 3))
