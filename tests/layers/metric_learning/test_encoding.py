from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.types import Array

LAYER = 'type: "AccuracyEncoding" decode_param { cache_size: 2 }'


class Slow:
    """The definition, item by item."""

    def __init__(self) -> None:
        self.sums: list[Array] = []
        self.counts: list[int] = []

    def __call__(self, x: Array, labels: list[int]) -> float:
        if max(labels) >= len(self.sums):
            self.sums = [np.zeros(x.shape[1]) for _ in range(max(labels) + 1)]
            self.counts = [0] * (max(labels) + 1)
        limit, hits = len(x) * 2, 0
        for item, k in zip(x, labels, strict=True):
            if self.counts[k] == 0:
                self.sums[k] = item / limit
            else:
                alpha = max(1 / (self.counts[k] + 1), 1 / limit)
                self.sums[k] = item * alpha + self.sums[k] * (1 - alpha)
            self.counts[k] += 1
            gaps = [float(((item - c) ** 2).sum()) for c in self.sums]
            hits += gaps.index(min(gaps)) == k
        return hits / len(x)


def test_the_nearest_centroid(make_layer: LayerMaker) -> None:
    rng = np.random.default_rng(3)
    layer, slow = make_layer(LAYER, (6, 4), (6, 2)), Slow()
    layer.double()
    found = []
    for k in range(5):
        labels = rng.integers(0, 3 if k < 3 else 4, 6)  # at last a new label
        x = rng.normal(0, 0.9, (6, 4)) + np.eye(4)[labels]
        pairs = np.stack([labels, rng.integers(0, 4, 6)], 1).astype(float)
        (top,) = [layer(torch.from_numpy(x), torch.from_numpy(pairs))]
        assert float(top) == pytest.approx(slow(x, labels.tolist()))
        found.append(float(top))
    assert len(set(found)) > 1


def test_a_repeated_pass_leaves_no_trace(make_layer: LayerMaker) -> None:
    layer = make_layer(LAYER, (2, 3), (2,))
    x, labels = torch.rand(2, 3), torch.tensor([0.0, 1.0])
    layer(x, labels)
    kept = [tensor.clone() for tensor in layer.run_state()]
    layer.again(x, labels)
    assert all(map(torch.equal, kept, layer.run_state()))
    other = make_layer(LAYER, (2, 3), (2,))
    other.load_run_state(kept)
    assert other(x, labels) == layer(x, labels)


def test_encodings_of_one_number(make_layer: LayerMaker) -> None:
    layer = make_layer(LAYER, (2,), (2,))
    assert layer(torch.tensor([0.0, 5.0]), torch.tensor([0.0, 1.0])) == 1


def test_refusals(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"N labels or pairs, got shapes \(4, 3\)"):
        make_layer(LAYER, (4, 3), (3,))
    layer = make_layer(LAYER, (2, 3), (2,))
    with pytest.raises(DataError, match="a label must be 0 or more, got -1"):
        layer(torch.zeros(2, 3), torch.tensor([0.0, -1.0]))
