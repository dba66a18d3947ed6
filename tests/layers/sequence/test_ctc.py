from __future__ import annotations

import itertools
import re
from math import log
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

STEPS, SEQUENCES, CLASSES = 4, 3, 3


def slow(scores: Array, labels: list[int], blank: int) -> float:
    """-log of the sum over all paths through the classes that spell the labels; scores (T, C)."""
    powers = np.exp(scores)
    p = powers / powers.sum(1, keepdims=True)
    total = 0.0
    for path in itertools.product(range(CLASSES), repeat=len(scores)):
        spelled = [c for c, _ in itertools.groupby(path) if c != blank]
        if spelled == labels:
            total += float(np.prod([p[t, c] for t, c in enumerate(path)]))
    return -log(total) if total else 0.0


def scores(seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(STEPS, SEQUENCES, CLASSES)) * 2


@pytest.mark.parametrize("blank", [0, 1, 2])
def test_labels_with_blanks(make_layer: LayerMaker, run: Runner, blank: int) -> None:
    x = scores()
    a, b = (c for c in range(CLASSES) if c != blank)
    rows = [[a, b, blank, a], [b, blank, b, blank], [a, a, a, b]]  # the last do not fit
    layer = make_layer(
        f'type: "CtcLoss" ctc_loss_param {{ alphabet_size: 3 time_step: 4 blank_label: {blank} }}',
        x.shape,
        (3, 4),
    )
    kept = [[c for c in row if c != blank] for row in rows]
    want = sum(slow(x[:, n], kept[n], blank) for n in range(SEQUENCES)) / SEQUENCES
    assert slow(x[:, 2], kept[2], blank) == 0
    assert run(layer, x, np.array(rows))[0] == pytest.approx(want)


@pytest.mark.parametrize("kind", ["CTCLoss", "WarpCTCLoss"])
def test_indicators_or_lengths(make_layer: LayerMaker, run: Runner, kind: str) -> None:
    x = scores(1)
    lengths, labels = [4, 2, 3], [[0, 1], [1], [0, 0]]
    cont = np.ones((STEPS, SEQUENCES))
    cont[0] = 0
    cont[2:, 1] = cont[3:, 2] = 0
    table = np.full((2, SEQUENCES), -1.0)
    for n, row in enumerate(labels):
        table[: len(row), n] = row
    want = sum(slow(x[: lengths[n], n], labels[n], 2) for n in range(SEQUENCES)) / SEQUENCES
    layer = make_layer(f'type: "{kind}"', x.shape, cont.shape, table.shape)
    assert run(layer, x, cont, table)[0] == pytest.approx(want)
    layer = make_layer(f'type: "{kind}"', x.shape, (3,), (3,), table.shape)
    counts = np.array([len(row) for row in labels])
    assert run(layer, x, np.array(lengths), counts, table)[0] == pytest.approx(want)
    text = f'type: "{kind}" ctc_loss_param {{ blank_index: '
    last = make_layer(f"{text} -1 }}", x.shape, cont.shape, table.shape)
    assert run(last, x, cont, table)[0] == pytest.approx(want)
    first = make_layer(f"{text} 0 }}", x.shape, cont.shape, table.shape)
    want = sum(
        slow(x[: lengths[n], n, [1, 2, 0]], labels[n], 2) for n in range(SEQUENCES)
    ) / SEQUENCES  # fmt: skip
    assert run(first, x, cont, table + (table >= 0))[0] == pytest.approx(want)


def test_sequences_without_labels_do_not_count(make_layer: LayerMaker, run: Runner) -> None:
    x = scores(5)
    cont = np.ones((STEPS, SEQUENCES))
    cont[0] = 0
    table = np.array([[0.0, -1, 1], [1, 0, -1]])
    layer = make_layer('type: "CTCLoss"', x.shape, cont.shape, table.shape)
    want = (slow(x[:, 0], [0, 1], 2) + slow(x[:, 2], [1], 2)) / SEQUENCES
    assert run(layer, x, cont, table)[0] == pytest.approx(want)
    given = torch.tensor(x, requires_grad=True)
    layer(given, torch.tensor(cont), torch.tensor(table)).backward()
    assert given.grad is not None
    assert [bool(given.grad[:, n].any()) for n in range(3)] == [True, False, True]


def test_the_gradient_is_that_of_the_sum(make_layer: LayerMaker) -> None:
    x, labels = scores(2), [[1, 2, 0], [2, 2, 0], [1, 1, 1]]
    given = torch.tensor(x, requires_grad=True)
    layer = make_layer('type: "CtcLoss"', x.shape, (3, 3))
    (2 * layer(given, torch.tensor(labels))).backward()

    def total(y: Array) -> float:
        rows = ([c for c in row if c] for row in labels)
        return sum(slow(y[:, n], row, 0) for n, row in enumerate(rows))

    step, want = 1e-5, np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        for sign in (1, -1):
            moved = x.copy()
            moved[place] += sign * step
            want[place] += sign * total(moved) / step  # 2 times the difference over 2 steps
    assert given.grad is not None
    np.testing.assert_allclose(given.grad, want, rtol=1e-6, atol=1e-8)  # finite differences


def test_labels_that_do_not_fit_take_no_gradient(make_layer: LayerMaker) -> None:
    x = torch.tensor(scores(), requires_grad=True)
    layer = make_layer('type: "CtcLoss"', tuple(x.shape), (3, 3))
    layer(x, torch.tensor([[1, 1, 1], [1, 0, 0], [1, 2, 0]])).backward()
    assert x.grad is not None
    assert [bool(x.grad[:, n].any()) for n in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("alphabet_size: 4", [(4, 3, 3), (3, 2)], "alphabet_size is 4, but the scores have shape"),
        ("time_step: 5", [(4, 3, 3), (3, 2)], "time_step is 5"),
        ("blank_label: 3", [(4, 3, 3), (3, 2)], "blank_label must be a class, 0 to 2, got 3"),
        ("", [(4, 3), (3, 2)], "takes scores (T, N, C), got shape 4 3"),
        ("", [(4, 3, 3), (4, 2)], "labels must have shape N L with N = 3, got shape 4 2"),
        ("", [(4, 3, 3), (4, 3), (2, 4)], "labels must have shape L N with N = 3"),
        ("", [(4, 3, 3), (3,)], "labels must have shape N L with N = 3, got shape 3"),
        ("", [(4, 3, 3), (4, 3), (2, 3, 7)], "labels must have shape L N with N = 3"),
        ("", [(4, 3, 3), (3, 3), (2, 3)], "must have 12 values, got shape 3 3"),
    ],
)
def test_bad_shapes(make_layer: LayerMaker, fields: str, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=re.escape(message)):
        make_layer(f'type: "CtcLoss" ctc_loss_param {{ {fields} }}', *shapes)


def test_bad_values(make_layer: LayerMaker, run: Runner) -> None:
    x = scores()
    layer = make_layer('type: "CtcLoss"', x.shape, (3, 2))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, x, np.array([[1, 1], [3, 1], [1, 1]]))
    layer = make_layer('type: "CtcLoss"', x.shape, (3,), (3,), (2, 3))
    with pytest.raises(DataError, match="a sequence has 5 timesteps of 4"):
        run(layer, x, np.array([1, 5, 2]), np.ones(3), np.zeros((2, 3)))
    with pytest.raises(DataError, match="a sequence has -1 timesteps of 4"):
        run(layer, x, np.array([1, -1, 2]), np.ones(3), np.zeros((2, 3)))
