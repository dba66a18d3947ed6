from __future__ import annotations

import pytest
import torch
from torch import Tensor

from moka.layers.detection import nms
from moka.layers.detection.boxes import overlap


def crowd(count: int, seed: int = 0, size: float = 1.0) -> Tensor:
    """Boxes of which many overlap, in a random order."""
    rng = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=rng, dtype=torch.float64)
    extent = torch.rand(count, 2, generator=rng, dtype=torch.float64) * 0.4 + 0.05
    return torch.cat([corner, corner + extent], 1) * size


def slow_nms(
    boxes: Tensor, threshold: float, eta: float = 1.0, extra: int = 0, over: str = "IOU"
) -> list[int]:
    """One box after the other, against all that stay."""
    shared = overlap(boxes, boxes, extra, over).tolist()
    kept: list[int] = []
    for k in range(len(boxes)):
        if all(shared[j][k] <= threshold for j in kept):
            kept.append(k)
            if eta < 1 and threshold > 0.5:
                threshold *= eta
    return kept


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 300])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_a_box_stays_unless_it_overlaps_a_better_one(count: int, threshold: float) -> None:
    boxes = crowd(count)
    want = slow_nms(boxes, threshold)
    assert nms.kept_of(boxes, threshold).tolist() == want
    assert nms.kept_of(boxes, threshold, at_most=5).tolist() == want[:5]


@pytest.mark.parametrize("over", ["IOU", "IOMU", "IOFU"])
def test_overlaps_in_pixels(over: str) -> None:
    boxes = crowd(150, size=40)
    have = nms.kept_of(boxes, 0.4, extra=1, over=over)
    assert have.tolist() == slow_nms(boxes, 0.4, extra=1, over=over)


@pytest.mark.parametrize(("threshold", "eta"), [(0.9, 0.8), (0.7, 0.99), (0.5, 0.5), (0.45, 0.9)])
def test_eta_lowers_a_threshold_above_one_half(threshold: float, eta: float) -> None:
    boxes = crowd(120, seed=4)
    want = slow_nms(boxes, threshold, eta)
    assert nms.kept_of(boxes, threshold, eta=eta).tolist() == want
    assert nms.kept_of(boxes, threshold, eta=eta, at_most=3).tolist() == want[:3]
    if threshold > 0.5:
        assert want != slow_nms(boxes, threshold)


@pytest.mark.parametrize("eta", [1.0, 0.9])
@pytest.mark.parametrize("count", [40, nms.MOST + 1])
def test_groups_are_suppressed_by_themselves(count: int, eta: float) -> None:
    boxes = torch.stack([crowd(count, seed) for seed in range(3)])
    valid = torch.rand(3, count, generator=torch.Generator().manual_seed(1)) < 0.4
    stays = nms.kept_in_groups(boxes, valid, 0.6, eta=eta)
    for group in range(3):
        index = valid[group].nonzero()[:, 0]
        want = torch.zeros(count, dtype=torch.bool)
        want[index[slow_nms(boxes[group][index], 0.6, eta)]] = True
        assert torch.equal(stays[group], want)


@pytest.mark.parametrize("pairs", [1, 5000, nms.PAIRS])
def test_groups_of_all_sizes(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(nms, "PAIRS", pairs)
    monkeypatch.setattr(nms, "MOST", 70)
    sizes = [3, 60, 0, 90, 31, 1, 58, 70, 29]
    boxes = torch.stack([crowd(90, seed) for seed in range(len(sizes))])
    valid = torch.arange(90) < torch.tensor(sizes)[:, None]
    stays = nms.kept_in_groups(boxes, valid, 0.4)
    for group, size in enumerate(sizes):
        assert stays[group].nonzero()[:, 0].tolist() == slow_nms(boxes[group][:size], 0.4)


def test_no_groups() -> None:
    none = torch.zeros(0, 0, dtype=torch.bool)
    assert nms.kept_in_groups(torch.zeros(0, 0, 4), none, 0.5).shape == (0, 0)


def test_equal_boxes_leave_the_first() -> None:
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.4]] * 200)
    assert nms.kept_of(boxes, 0.99).tolist() == [0]
    assert nms.kept_of(boxes, 1.0).tolist() == list(range(200))


def test_measures_of_overlap() -> None:
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 4]])
    scores = torch.tensor([0.5, 0.9])
    for over, kept in (("IOU", [1, 0]), ("IOMU", [1]), ("IOFU", [1])):
        assert nms.best_boxes(boxes, scores, nms.Suppression(0.6, over)).tolist() == kept
    # The share of the better box: half of the larger one is covered.
    assert nms.best_boxes(boxes, scores.flip(0), nms.Suppression(0.6, "IOFU")).tolist() == [0, 1]


def test_best_boxes_are_as_many_as_asked_for() -> None:
    boxes, scores = crowd(60, size=40), torch.rand(60, generator=torch.Generator().manual_seed(2))
    order = scores.argsort(descending=True)
    want = [int(order[i]) for i in slow_nms(boxes[order], 0.3, extra=1)]
    assert nms.best_boxes(boxes, scores, nms.Suppression(0.3)).tolist() == want
    assert nms.best_boxes(boxes, scores, nms.Suppression(0.3, after=2)).tolist() == want[:2]
    few = [int(order[i]) for i in slow_nms(boxes[order[:9]], 0.3, extra=1)]
    assert nms.best_boxes(boxes, scores, nms.Suppression(0.3, before=9)).tolist() == few != want
