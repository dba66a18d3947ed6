from __future__ import annotations

import numpy as np
import pytest

from moka.data.box_sampler import BatchSamplers, Jitter
from moka.errors import NetError
from moka.schema import caffe_pb2, parse_text
from moka.types import Floats

BOXES = np.array([[0.2, 0.3, 0.6, 0.7], [0.5, 0.1, 0.9, 0.4]], np.float32)
SHAPES = "sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }"


def samplers(*texts: str) -> BatchSamplers:
    return BatchSamplers([parse_text(text, caffe_pb2.BatchSampler) for text in texts])


def drawn(sampler: BatchSamplers | Jitter, boxes: Floats = BOXES, times: int = 200) -> list[Floats]:
    rng = np.random.default_rng(0)
    return [part for _ in range(times) if (part := sampler.draw(boxes, rng)) is not None]


def measures(part: Floats, box: Floats) -> dict[str, float]:
    """One box at a time, from the definitions."""
    x = max(0.0, min(part[2], box[2]) - max(part[0], box[0]))
    y = max(0.0, min(part[3], box[3]) - max(part[1], box[1]))
    of_part = (part[2] - part[0]) * (part[3] - part[1])
    of_box = (box[2] - box[0]) * (box[3] - box[1])
    shared = x * y
    return {
        "jaccard_overlap": shared / (of_part + of_box - shared),
        "sample_coverage": shared / of_part,
        "object_coverage": shared / of_box,
    }


@pytest.mark.parametrize(
    "limits",
    [
        {"min_jaccard_overlap": 0.1},
        {"min_jaccard_overlap": 0.5},
        {"max_jaccard_overlap": 0.3},
        {"min_jaccard_overlap": 0.2, "max_jaccard_overlap": 0.4},
        {"min_sample_coverage": 0.3},
        {"max_sample_coverage": 0.1},
        {"min_object_coverage": 0.9},
        {"max_object_coverage": 0.5},
        {"min_object_coverage": 0.9, "max_sample_coverage": 0.4},
    ],
)
def test_parts_meet_the_constraint(limits: dict[str, float]) -> None:
    constraint = " ".join(f"{name}: {value}" for name, value in limits.items())
    text = f"{SHAPES} sample_constraint {{ {constraint} }} max_sample: 1 max_trials: 50"
    found = drawn(samplers(text))
    assert len(found) > 50

    def met(part: Floats, box: Floats) -> bool:
        values = measures(part, box)
        return all(
            values[name[4:]] >= limit - 1e-6
            if name.startswith("min")
            else values[name[4:]] <= limit + 1e-6
            for name, limit in limits.items()
        )

    assert all(any(met(part, box) for box in BOXES) for part in found)
    assert not all(met(p, b) for p in drawn(samplers(SHAPES)) for b in BOXES)


def test_scale_and_aspect_ratio() -> None:
    found = np.array(drawn(samplers(SHAPES), times=2000))
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()
    width, height = (found[:, 2:] - found[:, :2]).T
    scale, aspect = np.sqrt(width * height), width / height
    assert 0.3 <= scale.min() < 0.32
    assert 0.95 < scale.max() <= 1.0001
    assert 0.5 - 1e-4 <= aspect.min() < 0.55
    assert 1.9 < aspect.max() <= 2 + 1e-4
    assert found[:, 0].std() > 0.1


def test_what_cannot_be_met_is_the_whole_image() -> None:
    never = f"{SHAPES} sample_constraint {{ min_jaccard_overlap: 1 }}"
    assert drawn(samplers(never)) == []
    always = f"{SHAPES} sample_constraint {{ min_jaccard_overlap: 0.1 }}"
    assert drawn(samplers(always), np.empty((0, 4), np.float32)) == []
    assert drawn(samplers(f"{SHAPES} use_original_image: false")) == []


def test_one_of_the_parts_of_all_samplers_is_drawn() -> None:
    small = "sampler { min_scale: 0.1 max_scale: 0.1 } max_sample: 1"
    found = drawn(samplers("max_sample: 1", small))
    whole = [part for part in found if part.tolist() == [0, 0, 1, 1]]
    assert 60 < len(whole) < 140
    assert len(found) == 200


def test_without_max_sample_all_trials_count() -> None:
    small = "sampler { min_scale: 0.1 max_scale: 0.1 } max_trials: 99"
    found = drawn(samplers("max_sample: 1", small))
    assert len([part for part in found if part.tolist() == [0, 0, 1, 1]]) < 12


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sampler { min_scale: 0 }", "0 < min_scale <= max_scale <= 1 must hold, got 0 and 1"),
        ("sampler { max_scale: 1.5 }", "got 1 and 1.5"),
        ("sampler { min_scale: 0.5 max_scale: 0.25 }", "got 0.5 and 0.25"),
        ("sampler { min_aspect_ratio: 2 }", "min_aspect_ratio <= max_aspect_ratio must hold"),
        ("sampler { min_aspect_ratio: -1 }", "got -1 and 1"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(NetError, match=message):
        samplers(text)


def test_jitter() -> None:
    found = np.array(drawn(Jitter(0.4), times=1000))
    assert 750 < len(found) < 850  # a fifth are as they are
    size = found[:, 2:] - found[:, :2]
    assert 0.6 - 1e-6 <= size.min() < 0.62
    assert size.max() <= 1
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()
    assert drawn(Jitter(0)) == []
    with pytest.raises(NetError, match="yolo_data_jitter is 0 or more and below 1, got 1"):
        Jitter(1)
