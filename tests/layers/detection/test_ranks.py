from __future__ import annotations

import torch

from moka.layers.detection.ranks import order_by_group, places, rank_in_group, shuffled

SCORE = torch.tensor([0.1, 0.9, 0.5, 0.5, 0.7, 0.2])
GROUP = torch.tensor([1, 0, 1, 1, 0, 2])


def test_order_by_group() -> None:
    assert order_by_group(SCORE, GROUP).tolist() == [1, 4, 2, 3, 0, 5]


def test_rank_in_group() -> None:
    assert rank_in_group(SCORE, GROUP).tolist() == [2, 0, 0, 1, 1, 0]


def test_places() -> None:
    number, place, count = places(torch.tensor([3, 3, 5, 9, 9, 9]))
    assert number.tolist() == [0, 0, 1, 2, 2, 2]
    assert place.tolist() == [0, 1, 0, 0, 1, 2]
    assert count.tolist() == [2, 1, 3]


def test_shuffled_takes_each_at_most_once() -> None:
    index = torch.tensor([4, 7, 9, 12])
    assert shuffled(index, 9).tolist() == index.tolist()
    torch.manual_seed(0)
    drawn = [tuple(sorted(shuffled(index, 2).tolist())) for _ in range(50)]
    assert all(len(set(pair)) == 2 and set(pair) <= set(index.tolist()) for pair in drawn)
    assert len(set(drawn)) == 6
