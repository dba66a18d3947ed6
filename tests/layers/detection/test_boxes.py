from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from moka.layers.detection import boxes

RNG = torch.Generator().manual_seed(3)


def random_boxes(count: int, size: float = 1.0) -> Tensor:
    corner = torch.rand(count, 2, generator=RNG, dtype=torch.float64) * size
    extent = torch.rand(count, 2, generator=RNG, dtype=torch.float64) * size / 2
    return torch.cat([corner, corner + extent], 1)


def slow_overlap(a: list[float], b: list[float], extra: int, over: str) -> float:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return (x2 - x1 + extra) * (y2 - y1 + extra) if x2 >= x1 and y2 >= y1 else 0.0

    w = min(a[2], b[2]) - max(a[0], b[0]) + extra
    h = min(a[3], b[3]) - max(a[1], b[1]) + extra
    if w <= 0 or h <= 0:
        return 0.0
    whole = {
        "IOU": area(*a) + area(*b) - w * h,
        "IOMU": min(area(*a), area(*b)),
        "IOFU": area(*a),
    }
    return w * h / whole[over]


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("over", ["IOU", "IOMU", "IOFU"])
def test_overlap(extra: int, over: str) -> None:
    a, b = random_boxes(7, 9), random_boxes(5, 9)
    have = boxes.overlap(a, b, extra, over)
    for i in range(7):
        for j in range(5):
            want = slow_overlap(a[i].tolist(), b[j].tolist(), extra, over)
            assert have[i, j] == pytest.approx(want, abs=1e-12)
            above = boxes.overlap_or_nan(a, b, extra, over)[i, j] > 0.3
            assert bool(above) == (want > 0.3)


def test_boxes_without_area_and_with_a_nan_overlap_nothing() -> None:
    strange = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.6, 0.2, 0.4, 0.8], [math.nan, 0, 1, 1]])
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0]])
    for other in (whole, strange):
        assert not boxes.overlap(strange, other).any()
        assert not (boxes.overlap_or_nan(strange, other) > 0).any()


def test_area() -> None:
    given = torch.tensor([[1.0, 2.0, 4.0, 8.0], [4.0, 2.0, 1.0, 8.0]])
    assert boxes.area(given).tolist() == [18, 0]
    assert boxes.area(given, 1).tolist() == [28, 0]


def slow_decode(offset: list[float], prior: list[float], code: str) -> list[float]:
    w, h = prior[2] - prior[0], prior[3] - prior[1]
    if code == "CORNER":
        return [p + o for p, o in zip(prior, offset, strict=True)]
    if code == "CORNER_SIZE":
        return [p + o * s for p, o, s in zip(prior, offset, (w, h, w, h), strict=True)]
    cx, cy = (prior[0] + prior[2]) / 2 + offset[0] * w, (prior[1] + prior[3]) / 2 + offset[1] * h
    w, h = w * math.exp(offset[2]), h * math.exp(offset[3])
    return [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]


@pytest.mark.parametrize("code", boxes.CODES)
@pytest.mark.parametrize("with_variances", [True, False])
def test_decode_and_encode(code: str, with_variances: bool) -> None:
    priors = random_boxes(6)
    offsets = torch.randn(6, 4, generator=RNG, dtype=torch.float64)
    variances = torch.rand(6, 4, generator=RNG, dtype=torch.float64) + 0.1
    scale = variances if with_variances else torch.ones_like(variances)
    given = variances if with_variances else None
    have = boxes.decode_boxes(offsets, priors, given, code)
    for k in range(6):
        want = slow_decode((offsets[k] * scale[k]).tolist(), priors[k].tolist(), code)
        assert have[k].tolist() == pytest.approx(want)
    torch.testing.assert_close(boxes.encode_boxes(have, priors, given, code), offsets)


def test_deltas_of_regions() -> None:
    """A box 8 wide (0 to 7) moved by half its width, and twice as wide."""
    moved = boxes.apply_deltas(
        torch.tensor([[0.0, 0.0, 7.0, 3.0]]), torch.tensor([[0.5, 0.0, math.log(2), 0.0]])
    )
    torch.testing.assert_close(moved, torch.tensor([[0.0, 0.0, 16.0, 4.0]]))
    a, b = random_boxes(4, 50), random_boxes(4, 50)
    deltas = boxes.deltas_between(a, b)
    again = boxes.apply_deltas(a, deltas)
    torch.testing.assert_close(again - torch.tensor([0, 0, 1, 1]), b)


def test_clip_to_image() -> None:
    clipped = boxes.clip_to_image(torch.tensor([[-3.0, 2.0, 50.0, math.nan]]), 20, 30)
    assert clipped[0, :3].tolist() == [0, 2, 29]
    assert clipped[0, 3].isnan()


def test_decode_corners() -> None:
    priors = random_boxes(5)
    moves = torch.randn(5, 8, generator=RNG, dtype=torch.float64)
    variances = torch.rand(5, 4, generator=RNG, dtype=torch.float64)
    for given in (variances, None):
        found = boxes.decode_corners(moves, priors, given)
        for k, (x1, y1, x2, y2) in enumerate(priors.tolist()):
            v = [1.0, 1.0] if given is None else given[k].tolist()
            corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
            for c, (x, y) in enumerate(corners):
                dx, dy = moves[k, 2 * c : 2 * c + 2].tolist()
                assert found[k, 2 * c] == pytest.approx(x + dx * v[0] * (x2 - x1))
                assert found[k, 2 * c + 1] == pytest.approx(y + dy * v[1] * (y2 - y1))
