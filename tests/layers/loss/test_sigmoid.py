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


@pytest.mark.parametrize("balance", [1, 1.1])
@pytest.mark.parametrize("ignored", [None, 0])
@pytest.mark.parametrize(("normalization", "mode"), [("", 3), ("normalization: NONE", 1)])
def test_class_balance(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    balance: float,
    ignored: int | None,
    normalization: str,
    mode: int,
) -> None:
    x = spread(3, 1, 2, 3)
    target = np.array([[1.0, 0, 0, 0.5, 2, 0], [1, 1, 0, 1, 1, 0], [0, 0, 0, 0, 2, 0]])
    target = target.reshape(x.shape)
    ignore = "" if ignored is None else f"ignore_label: {ignored}"
    layer = make_layer(
        'type: "SigmoidCrossEntropyLoss"'
        f" loss_param {{ class_balance: {balance} {ignore} {normalization} }}",
        x.shape,
        target.shape,
    )
    total = 0.0
    for scores, wanted in zip(x, target, strict=True):
        ones = int((wanted == 1).sum())
        zeros = 0 if ignored == 0 else int((wanted == 0).sum())
        for score, t in zip(scores.flat, wanted.flat, strict=True):
            if t not in (0, 1) or t == ignored:
                continue
            weight = (zeros if t == 1 else balance * ones) / (ones + zeros)
            total += weight * (log1p(exp(-abs(score))) + max(score, 0.0) - score * t)
    assert run(layer, x, target)[0] == pytest.approx(total / mode)
    check_gradient(layer, x, target)


def test_class_balance_without_classes(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        'type: "SigmoidCrossEntropyLoss" loss_param { class_balance: 1 }', (2,), (2,)
    )
    assert run(layer, np.array([1.0, 2]), np.array([2.0, 3]))[0] == 0
    with pytest.raises(NetError, match="class_balance must be > 0, got 0"):
        make_layer('type: "SigmoidCrossEntropyLoss" loss_param { class_balance: 0 }', (2,), (2,))
    with pytest.raises(NetError, match="class_balance is not an option of this layer type"):
        make_layer('type: "SoftmaxWithLoss" loss_param { class_balance: 1 }', (2, 2), (2,))


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2, 1)])
def test_multi_label_loss(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    shape: Shape,
) -> None:
    x = spread(*shape)
    t = (np.arange(x.size) % 4 - 1.5).clip(-1, 1).round().reshape(shape)
    t[0, 0] = 0
    layer = make_layer('type: "MultiLabelLoss" top: "loss" top: "p"', shape, shape)
    loss, p = run(layer, x, t)
    np.testing.assert_allclose(p, 1 / (1 + np.exp(-x)), rtol=1e-12)  # double precision
    wanted = -np.log(p[t > 0]).sum() - np.log(1 - p[t < 0]).sum()
    assert loss == pytest.approx(wanted / shape[0], rel=1e-12)
    check_gradient(layer, x, t)


def test_multi_label_loss_counts_its_targets(make_layer: LayerMaker) -> None:
    make_layer('type: "MultiLabelLoss"', (2, 3), (2, 3, 1, 1))
    with pytest.raises(NetError, match="MULTI_LABEL_LOSS layer inputs must have the same count"):
        make_layer('type: "MultiLabelLoss"', (2, 3), (2, 2))
