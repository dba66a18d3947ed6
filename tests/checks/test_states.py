from __future__ import annotations

import pytest

from moka.checks.states import states_of
from moka.errors import NetError
from moka.schema import caffe_pb2, parse_text

DATA = 'layer { name: "d" type: "Data" top: "x" %s }'
ACCURACY = 'layer { name: "a" type: "Accuracy" bottom: "x" top: "a" include { phase: TEST } }'


def states(text: str) -> list[str]:
    return [str(state) for state in states_of(parse_text(text, caffe_pb2.NetParameter))]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (DATA % "", ["TEST"]),
        (DATA % "" + ACCURACY, ["TEST", "TRAIN"]),
        (DATA % "include { phase: TRAIN }", ["TRAIN"]),
        (DATA % "include { phase: TRAIN }" + DATA % "include { phase: TEST }", ["TEST", "TRAIN"]),
        (DATA % "exclude { phase: TEST }", ["TRAIN"]),
        (DATA % 'include { stage: "deploy" }', ["TEST deploy"]),
        (
            DATA % 'include { stage: "val" phase: TEST }' + DATA % 'include { stage: "deploy" }',
            ["TEST val", "TEST deploy"],
        ),
        (DATA % "" + DATA % 'include { stage: "deploy" }', ["TEST"]),
        ('layer { name: "r" type: "ReLU" bottom: "x" top: "x" }', ["TEST"]),
        ("", ["TEST"]),
    ],
)
def test_states(text: str, wanted: list[str]) -> None:
    assert states(text)[: len(wanted)] == wanted


def test_no_more_than_these() -> None:
    assert states(DATA % "") == ["TEST"]
    assert states(DATA % "include { phase: TRAIN }") == ["TRAIN"]


def test_both_kinds_of_rules() -> None:
    with pytest.raises(NetError, match="either include or exclude"):
        states(DATA % "include { phase: TEST } exclude { phase: TRAIN }")
