from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.loss.normalization import divisor

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker


@pytest.mark.parametrize("kind", ["SigmoidCrossEntropyLoss", "EuclideanLoss"])
def test_weights_and_smoothing_belong_to_one_loss(make_layer: LayerMaker, kind: str) -> None:
    with pytest.raises(NetError, match="label_smoothing is not an option of this layer type"):
        make_layer(f'type: "{kind}" loss_param {{ label_smoothing: 0.1 }}', (2, 3), (2, 3))


@pytest.mark.parametrize(
    ("kind", "labels", "more"),
    [
        ("SoftmaxWithLoss", [0, 1], []),
        ("InfogainLoss", [0, 1], [[[1, 0], [0, 1]]]),
        ("SigmoidCrossEntropyLoss", [[0, 0], [1, 1]], []),
    ],
)
def test_scores_that_are_ignored_may_be_anything(
    make_layer: LayerMaker, kind: str, labels: list[Any], more: list[Any]
) -> None:
    others = [torch.tensor(values, dtype=torch.float32) for values in (labels, *more)]
    shapes = [tuple(t.shape) for t in others]
    layer = make_layer(f'type: "{kind}" loss_param {{ ignore_label: 1 }}', (2, 2), *shapes)
    x = torch.tensor([[0.0, 0.0], [np.nan, np.inf]], requires_grad=True)
    loss = layer(x, *others)
    loss.backward()
    assert loss.isfinite()
    assert x.grad is not None
    assert x.grad[0].all()
    assert x.grad[1].tolist() == [0, 0]


@pytest.mark.parametrize(
    ("mode", "counted", "wanted"),
    [
        ("FULL", None, 6),
        ("FULL", 2, 6),
        ("VALID", None, 6),
        ("VALID", 2, 2),
        ("VALID", 0, 1),  # never less
        ("BATCH_SIZE", 2, 3),
        ("NONE", 2, 1),
    ],
)
def test_what_a_loss_is_divided_by(mode: str, counted: int | None, wanted: int) -> None:
    mask = None if counted is None else torch.arange(6) < counted
    assert divisor(mode, 3, 2, mask) == wanted


def test_an_empty_batch_is_divided_by_one() -> None:
    assert divisor("FULL", 0, 2, None) == 1


@pytest.mark.parametrize(("given", "divisor"), [(4, 4), (0.25, 1)])
def test_a_number_of_the_users_choice(make_layer: LayerMaker, given: float, divisor: float) -> None:
    text = f"loss_param {{ normalization: PRE_FIXED pre_fixed_normalizer: {given} }}"
    layer = make_layer(f'type: "SoftmaxWithLoss" {text}', (2, 3), (2,))
    loss = layer(torch.zeros(2, 3), torch.zeros(2))
    np.testing.assert_allclose(loss, 2 * np.log(3) / divisor, rtol=1e-6)
