from __future__ import annotations

import logging

import pytest

from moka.errors import NetError
from moka.graph.filter import filter_net, meets
from moka.schema import caffe_pb2, parse_text

TRAIN = "phase: TRAIN"


def state_of(text: str) -> caffe_pb2.NetState:
    return parse_text(text, caffe_pb2.NetState)


@pytest.mark.parametrize(
    ("state", "rule", "met"),
    [
        (TRAIN, "", True),
        (TRAIN, "phase: TRAIN", True),
        (TRAIN, "phase: TEST", False),
        ("level: 2", "min_level: 2", True),
        ("level: 2", "min_level: 3", False),
        ("level: 2", "max_level: 2", True),
        ("level: 2", "max_level: 1", False),
        ("level: 2", "min_level: 1 max_level: 3", True),
        ("", "min_level: 1", False),
        ('stage: "a"', 'stage: "a"', True),
        ('stage: "a"', 'stage: "b"', False),
        ('stage: "a"', 'stage: "a" stage: "b"', False),
        ('stage: "a" stage: "b"', 'stage: "a" stage: "b"', True),
        ('stage: "a"', 'not_stage: "a"', False),
        ('stage: "a"', 'not_stage: "b"', True),
        ('phase: TRAIN stage: "a"', 'phase: TRAIN stage: "a" min_level: 1', False),
        ('phase: TRAIN stage: "a" level: 1', 'phase: TRAIN stage: "a" min_level: 1', True),
    ],
)
def test_all_conditions_of_a_rule_have_to_hold(state: str, rule: str, met: bool) -> None:
    assert meets(state_of(state), parse_text(rule, caffe_pb2.NetStateRule), "x") == met


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("phase: TEST", "phase (0) differed from the phase (1) specified by a rule"),
        ("min_level: 1", "level (0) is above the min_level (1) specified by a rule"),
        ("max_level: -1", "level (0) is above the max_level (-1) specified by a rule"),
        ('stage: "b"', "did not contain stage 'b' specified by a rule"),
        ('not_stage: "a"', "contained a not_stage 'a' specified by a rule"),
    ],
)
def test_the_log_says_which_condition_failed(
    caplog: pytest.LogCaptureFixture, rule: str, said: str
) -> None:
    caplog.set_level(logging.INFO, "moka.detail")
    state = state_of('phase: TRAIN stage: "a"')
    meets(state, parse_text(rule, caffe_pb2.NetStateRule), "conv")
    assert caplog.messages == [f"The NetState {said} in layer conv"]


@pytest.mark.parametrize(
    ("rules", "inside"),
    [
        ("", True),
        ("include { phase: TRAIN }", True),
        ("include { phase: TEST }", False),
        ("include { phase: TEST } include { phase: TRAIN }", True),
        ("exclude { phase: TRAIN }", False),
        ("exclude { phase: TEST }", True),
        ("exclude { phase: TEST } exclude { phase: TRAIN }", False),
        ("include { }", True),
        ("exclude { }", False),
    ],
)
def test_include_and_exclude(rules: str, inside: bool) -> None:
    net = parse_text(f'layer {{ name: "a" {rules} }} layer {{ name: "b" }}', caffe_pb2.NetParameter)
    filtered = filter_net(net, state_of(TRAIN))
    assert [layer.name for layer in filtered.layer] == (["a", "b"] if inside else ["b"])
    assert filtered.state.phase == caffe_pb2.TRAIN
    assert len(net.layer) == 2
    assert not net.HasField("state")


def test_both_kinds_of_rules_are_refused() -> None:
    net = parse_text(
        'layer { name: "a" type: "T" include { } exclude { } }', caffe_pb2.NetParameter
    )
    with pytest.raises(NetError, match=r'layer "a" \(T\): give either include or exclude'):
        filter_net(net, state_of(TRAIN))
