from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

    from moka.types import Shape

DECAY = 'type: "FeatureDecayLoss" feature_decay_loss_param'
INCAY = 'type: "FeatureIncayLoss" feature_incay_loss_param'


def test_the_average_of_lengths_moves(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{DECAY} {{ }}", (2, 1), training=True)
    assert layer.state_blobs == (0,)
    assert layer.weights[0].tolist() == [-1]
    x = np.array([[3.0], [5.0]])
    assert run(layer, x)[0] == 4
    assert run(layer, x * 2)[0] == pytest.approx(0.99 * 4 + 0.01 * 8)
    assert layer.weights[0].item() == pytest.approx(4.04)
    repeated = layer.again(torch.tensor(x))
    assert float(np.asarray(repeated)) == pytest.approx(4.04)  # and leaves no trace
    assert layer.weights[0].item() == pytest.approx(4.04)


def test_an_empty_batch_leaves_the_average(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{DECAY} {{ }}", (0, 1), training=True)
    layer.weights[0].data.fill_(7)
    assert run(layer, np.zeros((0, 1)))[0] == 7
    assert layer.weights[0].tolist() == [7]


def test_testing_does_not_store_the_average(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(f"{DECAY} {{ }}", (2,))
    assert run(layer, np.array([3.0, 5.0]))[0] == 4
    assert layer.weights[0].tolist() == [-1]


@pytest.mark.parametrize(
    ("fields", "gradient"),
    [("", 0), ("decay_threshold: 3.5", 1), ("decay_threshold: 4", 0), ("force_decay: true", 1)],
)
def test_lengths_above_the_threshold_shrink(
    make_layer: LayerMaker, fields: str, gradient: float
) -> None:
    layer = make_layer(f"{DECAY} {{ {fields} }}", (2,), training=True)
    x = torch.tensor([3.0, 5.0], requires_grad=True)
    (2 * layer(x)).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [2 * gradient] * 2


@pytest.mark.parametrize(("fields", "counted"), [("", [1, 0, 1]), ("force_incay: true", [1, 1, 1])])
def test_well_classified_features_grow(
    make_layer: LayerMaker, run: Runner, fields: str, counted: list[int]
) -> None:
    x = np.array([[3.0, 4.0], [1.0, 0.0], [0.6, 0.8]])
    norm = np.sqrt((x**2).sum(1, keepdims=True))
    score = np.array([[0.1, 0.9], [0.2, 0.3], [0.5, 0.5]])  # of equal ones the first
    label = np.array([1, 0, 0])
    layer = make_layer(
        f'{INCAY} {{ {fields} }} top: "loss" top: "mean"', (3, 2), (3, 1), (3, 2), (3,)
    )
    loss, mean = run(layer, x, norm, score, label)
    terms = [c / n**2 for c, n in zip(counted, norm[:, 0], strict=True)]
    assert loss == pytest.approx(sum(terms) / 3)
    assert mean.tolist() == pytest.approx([norm.mean()])
    given = torch.tensor(x, requires_grad=True)
    (2 * layer(given, *map(torch.tensor, (norm, score, label)))[0]).backward()
    assert given.grad is not None
    want = -4 * x / norm**4 * np.array(counted)[:, None]
    np.testing.assert_allclose(given.grad.numpy(), want, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        (DECAY, [(2, 3)], r"needs one length for each item, got shape \(2, 3\)"),
        (INCAY, [(2, 3), (2, 2), (2, 2), (2,)], "same first dimension"),
        (INCAY, [(2, 3), (2,), (3, 2), (2,)], "same first dimension"),
    ],
)
def test_bad_shapes(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f"{text} {{ }}", *shapes)
