from __future__ import annotations

import math

import pytest
import torch

from moka.layers.detection.detect import DetectionLimits, detections, split_priors

ALL = DetectionLimits(None, -1, 0.5, 1, -1)


def test_prior_boxes_are_split_from_variances() -> None:
    boxes, variances = split_priors(torch.arange(16.0).view(1, 2, 8))
    assert boxes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert variances.tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]


def found(scores: list[list[float]], limits: DetectionLimits = ALL) -> list[list[float]]:
    """Label and score of the detections of one image with boxes far from each other."""
    given = torch.tensor(scores)[None]
    count = given.shape[1]
    corner = torch.arange(count)[:, None].expand(-1, 2).float()
    priors = torch.cat([corner, corner + 0.5], 1)
    offsets = torch.zeros(1, count, 1, 4)
    rows = detections(given, offsets, priors, None, "CORNER", 0, limits)
    return [[round(v, 3) for v in row[1:3]] for row in rows.tolist()]


SCORES = [[0.0, 0.9, 0.1], [0.0, 0.5, 0.8], [0.0, 0.7, 0.7]]


def test_detections_come_by_label_and_falling_score() -> None:
    want = [[1, 0.9], [1, 0.7], [1, 0.5], [2, 0.8], [2, 0.7], [2, 0.1]]
    assert found(SCORES) == want


@pytest.mark.parametrize("shared", [True, False])
def test_each_class_has_its_own_box_or_all_share_one(shared: bool) -> None:
    scores = torch.tensor([[[0.9, 0.8]]])
    offsets = torch.arange(4.0 if shared else 8.0).view(1, 1, -1, 4)
    rows = detections(scores, offsets, torch.zeros(1, 4), None, "CORNER", -1, ALL)
    boxes = [[0, 1, 2, 3], [0, 1, 2, 3] if shared else [4, 5, 6, 7]]
    assert rows[:, 1].tolist() == [0, 1]
    assert rows[:, 3:].tolist() == boxes


def test_the_score_has_to_be_above_the_threshold() -> None:
    assert found(SCORES, ALL._replace(score=0.7)) == [[1, 0.9], [2, 0.8]]


def test_the_best_of_an_image_are_kept_over_all_classes() -> None:
    assert found(SCORES, ALL._replace(keep_top_k=3)) == [[1, 0.9], [1, 0.7], [2, 0.8]]
    assert found(SCORES, ALL._replace(keep_top_k=0)) == [[-1, -1]]


def test_the_best_of_a_class_go_into_the_suppression() -> None:
    assert found(SCORES, ALL._replace(top_k=1)) == [[1, 0.9], [2, 0.8]]


@pytest.mark.parametrize("top_k", [1, 4, 6, 9, 10, 11, 12])
def test_of_equal_scores_the_first_prior_boxes_count(top_k: int) -> None:
    scores = torch.full((2, 12, 3), 0.5)
    scores[0, [2, 7], 1], scores[0, 9, 1], scores[1, [0, 3], 1] = 0.8, math.nan, -math.inf
    corner = torch.arange(12)[:, None].expand(-1, 2).float()
    priors, offsets = torch.cat([corner, corner + 0.5], 1), torch.zeros(2, 12, 1, 4)
    rows = detections(scores, offsets, priors, None, "CORNER", 0, ALL._replace(top_k=top_k))
    want = [
        (image, label, prior)
        for image in (0, 1)
        for label in (1, 2)
        for prior in slow_best(scores[image, :, label].tolist(), top_k)
    ]
    assert [(image, label, x1) for image, label, _, x1, *_ in rows.tolist()] == want


def slow_best(scores: list[float], count: int) -> list[int]:
    found = [k for k, score in enumerate(scores) if score > -1e30]
    return sorted(found, key=lambda k: -scores[k])[:count]
