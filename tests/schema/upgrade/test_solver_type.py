from __future__ import annotations

import logging

import pytest

from moka.errors import SchemaError
from moka.schema import caffe_pb2, parse_text
from moka.schema.upgrade import solver_needs_upgrade, upgrade_solver


def solver(text: str) -> caffe_pb2.SolverParameter:
    return parse_text(text, caffe_pb2.SolverParameter)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("SGD", "SGD"),
        ("NESTEROV", "Nesterov"),
        ("ADAGRAD", "AdaGrad"),
        ("RMSPROP", "RMSProp"),
        ("ADADELTA", "AdaDelta"),
        ("ADAM", "Adam"),
    ],
)
def test_every_type(old: str, new: str) -> None:
    given = solver(f"base_lr: 0.5 solver_type: {old}")
    assert solver_needs_upgrade(given)
    assert upgrade_solver(given) == solver(f'base_lr: 0.5 type: "{new}"')
    assert given == solver(f"base_lr: 0.5 solver_type: {old}")


@pytest.mark.parametrize("text", ["", 'type: "Adam"'])
def test_todays_form_is_left_alone(text: str) -> None:
    given = solver(text)
    assert not solver_needs_upgrade(given)
    assert upgrade_solver(given) is given


def test_both_are_refused() -> None:
    says = r'^s\.prototxt: it has both solver_type: ADAM and type: "Adam"\. Leave out solver_type'
    with pytest.raises(SchemaError, match=says):
        upgrade_solver(solver('solver_type: ADAM type: "Adam"'), "s.prototxt")


def test_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "moka")
    upgrade_solver(solver("solver_type: ADAM"), "s.prototxt")
    assert caplog.messages == [
        "Attempting to upgrade input file specified using deprecated 'solver_type' field (enum)':"
        " s.prototxt",
        "Successfully upgraded file specified using deprecated 'solver_type' field (enum) to"
        " 'type' field (string).",
    ]


@pytest.mark.parametrize(("given", "today"), [("ADAM", "Adam"), ("sgd", "SGD"), ("Nope", "Nope")])
def test_other_spellings_of_todays_names(given: str, today: str) -> None:
    assert upgrade_solver(solver(f'type: "{given}"')) == solver(f'type: "{today}"')
