from __future__ import annotations

from math import exp, log1p
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


def cross_entropy(x: Array, target: Array, ignored: int | None, mode: str) -> float:
    total, valid = 0.0, 0
    for score, t in zip(x.flat, target.flat, strict=True):
        if ignored is not None and int(t) == ignored:
            continue
        valid += 1
        total += log1p(exp(-abs(score))) + max(score, 0.0) - score * t
    parts = {"FULL": x.size, "VALID": valid, "BATCH_SIZE": x.shape[0], "NONE": 1}
    return total / max(parts[mode], 1)


@pytest.mark.parametrize("ignored", [None, 0, 1, -1])
@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ("", "BATCH_SIZE"),
        ("normalization: FULL", "FULL"),
        ("normalization: VALID", "VALID"),
        ("normalization: NONE", "NONE"),
        ("normalize: true", "VALID"),
        ("normalize: false", "BATCH_SIZE"),
    ],
)
def test_sigmoid_cross_entropy(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    mode: str,
    ignored: int | None,
) -> None:
    more = "" if ignored is None else f"ignore_label: {ignored}"
    text = f'type: "SigmoidCrossEntropyLoss" loss_param {{ {fields} {more} }}'
    layer = make_layer(text, (2, 3), (2, 3))
    x = spread(2, 3) * 10
    target = np.array([[0, 1, 0.25], [1, 0.75, -1 if ignored == -1 else 0]])
    (loss,) = run(layer, x, target)
    # Both in double precision.
    assert loss == pytest.approx(cross_entropy(x, target, ignored, mode), rel=1e-12)
    check_gradient(layer, x, target)


def test_sigmoid_cross_entropy_of_sure_scores_is_small_but_exact(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SigmoidCrossEntropyLoss"', (1, 2), (1, 2))
    loss = layer(torch.tensor([[13.0, -13.0]]), torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(2 * log1p(exp(-13)), rel=1e-6)  # single precision


def test_sigmoid_cross_entropy_of_huge_scores(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "SigmoidCrossEntropyLoss"', (1, 2), (1, 2))
    (loss,) = run(layer, np.array([[1000.0, -1000.0]]), np.array([[0.0, 1.0]]))
    assert loss == 2000


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "SigmoidCrossEntropyLoss"', [(2, 3), (2, 2)], "must have the same count"),
        ('type: "SigmoidCrossEntropyLoss"', [(), ()], "at least 1 axis"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)
