"""Which layers a net has, by phase, level and stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import caffe
from moka.errors import NetError

DATA = 'layer { name: "x" type: "DummyData" top: "x" dummy_data_param { shape { dim: 3 } } }\n'


def layer(name: str, *rules: str) -> str:
    said = " ".join(f"include {{ {rule} }}" for rule in rules)
    return f'layer {{ name: "{name}" type: "Power" bottom: "x" top: "{name}" {said} }}\n'


LEVELS = DATA + layer("none") + layer("to0", "max_level: 0") + layer("from1", "min_level: 1")
STAGES = (
    DATA
    + layer("a", 'stage: "A"')
    + layer("b", 'stage: "B"')
    + layer("a_or_b", 'stage: "A"', 'stage: "B"')
    + layer("a_and_b", 'stage: "A" stage: "B"')
    + layer("not_a", 'not_stage: "A"')
)
ALL_IN_ONE = (
    DATA
    + layer("train", "phase: TRAIN")
    + layer("test", "phase: TEST")
    + layer("deploy", 'phase: TEST stage: "deploy"')
    + layer("validate", 'phase: TEST stage: "val"', "phase: TRAIN min_level: 2")
)


def chosen(text: str, *args: Any, **more: Any) -> list[str]:
    Path("filtered.prototxt").write_text(text)
    net = caffe.Net("filtered.prototxt", *args, **more)
    return [name for name in net.blobs if not name.startswith("x")]


@pytest.mark.parametrize(
    ("level", "wanted"),
    [(None, ["none", "to0"]), (0, ["none", "to0"]), (1, ["none", "from1"]), (9, ["none", "from1"])],
)
def test_levels(level: int | None, wanted: list[str]) -> None:
    more = {} if level is None else {"level": level}
    assert chosen(LEVELS, caffe.TEST, **more) == wanted
    if level is not None:
        assert chosen(LEVELS, caffe.TEST, level) == wanted


@pytest.mark.parametrize(
    ("stages", "wanted"),
    [
        (None, ["not_a"]),
        ([], ["not_a"]),
        (["A"], ["a", "a_or_b"]),
        (["B"], ["b", "a_or_b", "not_a"]),
        (("A", "B"), ["a", "b", "a_or_b", "a_and_b"]),
        (["B", "other"], ["b", "a_or_b", "not_a"]),
    ],
)
def test_stages(stages: list[str] | None, wanted: list[str]) -> None:
    assert chosen(STAGES, caffe.TEST, stages=stages) == wanted


@pytest.mark.parametrize(
    ("phase", "more", "wanted"),
    [
        (caffe.TRAIN, {}, ["train"]),
        (caffe.TRAIN, {"level": 2}, ["train", "validate"]),
        (caffe.TEST, {}, ["test"]),
        (caffe.TEST, {"stages": ["deploy"]}, ["test", "deploy"]),
        (caffe.TEST, {"stages": ["val"], "level": 3}, ["test", "validate"]),
    ],
)
def test_all_in_one(phase: Any, more: dict[str, Any], wanted: list[str]) -> None:
    assert chosen(ALL_IN_ONE, phase, **more) == wanted


def test_a_stage_that_is_no_list() -> None:
    with pytest.raises(NetError, match=r'filtered\.prototxt: stages .* give \["deploy"\]'):
        chosen(DATA, caffe.TEST, stages="deploy")


def test_a_phase_that_is_none() -> None:
    with pytest.raises(NetError, match=r"phase is caffe.TRAIN \(0\) or caffe.TEST \(1\), not 7"):
        chosen(DATA, 7)
