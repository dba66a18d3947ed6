from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

X = np.array([[0.9, 0.2, -0.5], [0.1, 0.3, 0.4], [0.2, 0.6, 0.375]])
LABELS = np.array([0, 1, 2])
KIND = 'type: "LabelSpecificAdd" label_specific_add_param'


def test_the_true_class_is_lowered_where_its_score_is_high(
    make_layer: LayerMaker, run: Runner
) -> None:
    layer = make_layer(f"{KIND} {{ bias: -0.375 }}", X.shape, LABELS.shape, training=True)
    want = X.copy()
    want[0, 0] -= 0.375
    have = run(layer, X, LABELS)[0]  # 0.3 and 0.375 are not above 0.375
    np.testing.assert_allclose(have, want, atol=1e-7)


@pytest.mark.parametrize(("fields", "changes"), [("", False), ("transform_test: true", True)])
def test_phase_test(make_layer: LayerMaker, run: Runner, fields: str, *, changes: bool) -> None:
    layer = make_layer(f"{KIND} {{ bias: -0.25 {fields} }}", X.shape, LABELS.shape)
    assert (run(layer, X, LABELS)[0] != X).any() == changes


def test_a_bias_that_changes_from_pass_to_pass(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer(
        f"{KIND} {{ bias_base: -0.1 bias_gamma: 0.5 bias_power: -1 bias_min: -0.6 iteration: 2 }}"
        ' top: "y" top: "bias"',
        X.shape,
        LABELS.shape,
        training=True,
    )
    for t in (2, 3, 4):
        bias = max(-0.6, -0.1 + (1 + 0.5 * t) ** -1 - 1)
        y, have = run(layer, X, LABELS)
        assert have.tolist() == pytest.approx([bias])
        assert y[0, 0] == pytest.approx(0.9 + bias)
        assert layer.again(torch.tensor(X), torch.tensor(LABELS))[0][0, 0] == y[0, 0]
    assert bias == -0.6


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    layer = make_layer(f"{KIND} {{ bias: -0.25 }}", X.shape, LABELS.shape, training=True)
    check_gradient(layer, X, LABELS)


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match="same first dimension"):
        make_layer(f"{KIND} {{ }}", X.shape, (2,))
    layer = make_layer(f"{KIND} {{ }}", X.shape, LABELS.shape, training=True)
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, X, LABELS + 1)
