"""Marks of the backward pass. In the tables a layer has one parameter if it is of type One."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from moka.graph import mark_backward
from moka.graph.backward import BackwardMarks

if TYPE_CHECKING:
    from tests.graph.conftest import NodeMaker

DATA = 'layer { name: "in" type: "Input" top: "x" top: "t" }'


def one(name: str, bottom: str, more: str = "") -> str:
    return f'layer {{ name: "{name}" type: "One" bottom: "{bottom}" top: "{name}" {more} }}'


def act(name: str, blob: str) -> str:
    return f'layer {{ name: "{name}" type: "Each" bottom: "{blob}" top: "{blob}" }}'


def loss(bottom: str, more: str = "") -> str:
    return f'layer {{ name: "loss" type: "Loss" bottom: "{bottom}" bottom: "t" top: "l" {more} }}'


def marks_of(
    make_nodes: NodeMaker, text: str, mults: dict[str, float] | None = None, force: bool = False
) -> dict[str, BackwardMarks]:
    nodes = make_nodes(text)
    lr = [[(mults or {}).get(n.name, 1.0)] if n.type == "One" else [] for n in nodes]
    return dict(zip([n.name for n in nodes], mark_backward(nodes, lr, force), strict=True))


def test_a_chain(make_nodes: NodeMaker) -> None:
    text = DATA + one("a", "x") + act("r", "a") + one("b", "a") + loss("b")
    assert marks_of(make_nodes, text) == {
        "in": BackwardMarks(False, (), ()),
        "a": BackwardMarks(True, (False,), (True,)),
        "r": BackwardMarks(True, (True,), ()),
        "b": BackwardMarks(True, (True,), (True,)),
        "loss": BackwardMarks(True, (True, False), ()),
    }


@pytest.mark.parametrize(
    ("text", "mults", "running"),
    [
        (one("a", "x"), {}, []),  # no loss
        (one("a", "x", "loss_weight: 1"), {}, ["a"]),
        (one("a", "x") + loss("a"), {}, ["a", "loss"]),
        (act("r", "x") + one("a", "x") + loss("a"), {}, ["a", "loss"]),
        (one("a", "x") + one("b", "a") + loss("b"), {"a": 0}, ["b", "loss"]),
        (one("a", "x") + one("b", "a") + loss("b"), {"b": 0}, ["a", "b", "loss"]),
        (one("a", "x") + loss("a"), {"a": 0}, []),
        (one("a", "x") + one("b", "a") + loss("a"), {}, ["a", "a_a_0_split", "loss"]),
        (
            one("a", "x") + one("b", "a", "propagate_down: false") + loss("b"),
            {},
            ["b", "loss"],
        ),
        (
            one("a", "x") + one("idle", "a") + one("b", "a", "propagate_down: false") + loss("b"),
            {},
            ["b", "loss"],
        ),
        (act("r", "x") + one("b", "x", "propagate_down: true") + loss("b"), {}, ["b", "loss"]),
        (one("a", "x") + loss("a", "loss_weight: 0"), {}, []),
    ],
)
def test_which_layers_run_backward(
    make_nodes: NodeMaker, text: str, mults: dict[str, float], running: list[str]
) -> None:
    marks = marks_of(make_nodes, DATA + text, mults)
    assert [name for name, mark in marks.items() if mark.layer] == running


def test_propagate_down_true_asks_for_the_gradient_of_data(make_nodes: NodeMaker) -> None:
    marks = marks_of(make_nodes, DATA + one("a", "x", "propagate_down: true") + loss("a"))
    assert marks["a"].bottoms == (True,)


def test_propagate_down_false_stops_one_of_two_paths(make_nodes: NodeMaker) -> None:
    text = (
        DATA
        + one("a", "x")
        + one("b", "a", "propagate_down: false")
        + 'layer { name: "j" type: "Join" bottom: "a" bottom: "b" top: "j" }'
        + loss("j")
    )
    marks = marks_of(make_nodes, text)
    assert marks["a"].layer
    assert marks["b"].bottoms == (False,)
    assert marks["j"].bottoms == (True, True)


def test_a_layer_all_of_whose_tops_are_cut_off_does_not_run(make_nodes: NodeMaker) -> None:
    text = DATA + one("a", "x") + one("b", "a", "propagate_down: false") + loss("b")
    assert marks_of(make_nodes, text)["a"].bottoms == (False,)


def test_force_backward_marks_all_but_the_labels(make_nodes: NodeMaker) -> None:
    text = DATA + one("a", "x", "propagate_down: false") + loss("a")
    marks = marks_of(make_nodes, text, {"a": 0}, force=True)
    assert marks["a"] == BackwardMarks(True, (True,), (True,))
    assert marks["loss"] == BackwardMarks(True, (True, False), ())


def test_a_parameter_with_lr_mult_zero_is_not_marked(make_nodes: NodeMaker) -> None:
    marks = marks_of(make_nodes, DATA + one("a", "x") + one("b", "a") + loss("b"), {"b": 0})
    assert marks["b"].params == (False,)
    assert marks["b"].bottoms == (True,)
