from __future__ import annotations

from itertools import product
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.schema.blobproto import from_array
from moka.types import Array

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1, 1)])
def test_multinomial_logistic(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, shape: Shape
) -> None:
    layer = make_layer('type: "MultinomialLogisticLoss"', shape, (3,))
    p = np.random.default_rng(2).uniform(0.1, 0.9, shape)
    labels = np.array([1, 3, 0])
    (loss,) = run(layer, p, labels)
    wanted = -sum(log(p.reshape(3, 4)[n, labels[n]]) for n in range(3)) / 3
    assert loss == pytest.approx(wanted, rel=1e-12)  # double precision
    check_gradient(layer, p, labels)


@pytest.mark.parametrize("least", [0.0, -0.5, -3e7])
def test_a_probability_of_zero_or_less_is_floored_but_keeps_its_gradient(
    make_layer: LayerMaker, least: float
) -> None:
    layer = make_layer('type: "MultinomialLogisticLoss"', (1, 2), (1,))
    p = torch.tensor([[least, 1.0]], dtype=torch.float64, requires_grad=True)
    loss = layer(p, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(-log(1e-20), rel=1e-12)  # double precision
    assert p.grad is not None
    assert p.grad[0].tolist() == pytest.approx([-1e20, 0], rel=1e-12)


def infogain(x: Array, labels: Array, h: Array, ignored: int | None, mode: str) -> float:
    """Scores (outer, classes, inner), labels (outer, inner)."""
    outer, classes, inner = x.shape
    total, valid = 0.0, 0
    for n, p in product(range(outer), range(inner)):
        if labels[n, p] == ignored:
            continue
        valid += 1
        whole = log(sum(exp(float(v)) for v in x[n, :, p]))
        total -= sum(h[labels[n, p], c] * (x[n, c, p] - whole) for c in range(classes))
    parts = {"FULL": outer * inner, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}
    return total / max(parts[mode], 1)


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ("", "VALID"),
        ("normalization: FULL", "FULL"),
        ("normalization: BATCH_SIZE", "BATCH_SIZE"),
        ("normalization: NONE", "NONE"),
        ("normalize: false", "BATCH_SIZE"),
    ],
)
def test_infogain(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    tmp_path: Path,
    fields: str,
    mode: str,
    ignored: int | None,
    from_file: bool,
) -> None:
    h = np.random.default_rng(4).integers(0, 8, (1, 1, 4, 4)) / 4
    file = tmp_path / "h.binaryproto"
    file.write_bytes(from_array(h.astype(np.float32)).SerializeToString())
    more = "" if ignored is None else f"ignore_label: {ignored}"
    source = f'infogain_loss_param {{ source: "{file}" }}' if from_file else ""
    text = f'type: "InfogainLoss" {source} loss_param {{ {fields} {more} }}'
    matrix = [] if from_file else [h]
    layer = make_layer(text, (3, 4, 2), (3, 2), *(m.shape for m in matrix))
    x, labels = spread(3, 4, 2), np.array([[0, 1], [3, 1], [2, 0]])
    (loss,) = run(layer, x, labels, *matrix)
    # Both in double precision.
    assert loss == pytest.approx(infogain(x, labels, h[0, 0], ignored, mode), rel=1e-12)
    check_gradient(layer, x, labels, *matrix)


def test_infogain_shows_its_probabilities(make_layer: LayerMaker, run: Runner) -> None:
    text = 'type: "InfogainLoss" top: "l" top: "p" infogain_loss_param { axis: 0 }'
    layer = make_layer(text, (2, 3), (3,), (2, 2))
    loss, probabilities = run(layer, np.zeros((2, 3)), np.array([0, 1, 0]), np.eye(2))
    assert probabilities.tolist() == [[0.5] * 3] * 2
    assert loss == pytest.approx(log(2), rel=1e-12)  # double precision


def test_infogain_floors_but_keeps_the_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "InfogainLoss"', (1, 2), (1,), (2, 2))
    x = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = layer(x, torch.tensor([1.0]), torch.eye(2))
    loss.backward()
    assert loss.item() == pytest.approx(-log(1e-20), rel=1e-6)  # single precision
    assert x.grad is not None
    assert x.grad.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "MultinomialLogisticLoss"', [(2, 3), (1,)], "the same first dimension: 2 items"),
        ('type: "InfogainLoss"', [(2, 3), (2,)], "Infogain matrix source must be specified"),
        ('type: "InfogainLoss"', [(2, 3), (2,), (3, 2)], "must have 3 x 3 values, found 6"),
        ('type: "InfogainLoss"', [(2, 3), (3,), (3, 3)], "Number of labels must match"),
        ('type: "MultinomialLogisticLoss"', [(), ()], "at least 1 axis"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def test_confidence_penalty(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck
) -> None:
    p = np.random.default_rng(1).uniform(0.1, 1, (3, 4))
    labels = np.array([1, 3, 0])
    text = 'type: "ConfidencePenaltyLoss" confidence_penalty_loss_param { beta: 0.3 }'
    layer = make_layer(text, p.shape, labels.shape)
    want = 0.0
    for row, label in zip(p, labels, strict=True):
        for j, value in enumerate(row):
            want -= (0.7 if j == label else 0.3 / 2) * np.log(value)
    assert run(layer, p, labels)[0] == pytest.approx(want / 3)
    check_gradient(layer, p, labels)


def test_confidence_penalty_of_one_item_and_of_nothing(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "ConfidencePenaltyLoss"', (1, 2), (1,))
    want = -0.9 * np.log(0.25) - 0.1 * np.log(1e-20)
    assert run(layer, np.array([[0.25, 0]]), np.zeros(1))[0] == pytest.approx(want)
