from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

LABELS = np.array([0, 2, 1, 2, 0.0])
SOFTMAX = 'type: "SoftmaxWithLossOHEM" loss_param {{ {} }}'
ANNOTATOR = 'type: "BoxAnnotatorOHEM" top: "l" top: "w" box_annotator_ohem_param {{ {} }}'


@pytest.mark.parametrize("kind", ["SoftmaxWithLossOHEM", "SoftmaxWithLoss"])
@pytest.mark.parametrize(
    ("fields", "divisor"),
    [
        ("", 5),
        ("normalization: BATCH_SIZE", 5),
        ("ignore_label: 2", 3),
        ("normalization: PRE_FIXED pre_fixed_normalizer: 4", 4),
    ],
)
def test_loss_of_each(
    make_layer: LayerMaker, run: Runner, spread: Spread, fields: str, divisor: int, kind: str
) -> None:
    x = spread(5, 3)
    tops = 'top: "loss" top: "p" top: "each" '
    text = tops + SOFTMAX.format(fields).replace("SoftmaxWithLossOHEM", kind)
    loss, p, each = run(make_layer(text, (5, 3), (5,)), x, LABELS)
    want_p = np.exp(x) / np.exp(x).sum(1, keepdims=True)
    want = -np.log(want_p[np.arange(5), LABELS.astype(int)])
    if "ignore" in fields:
        want[LABELS == 2] = 0
    np.testing.assert_allclose(p, want_p, rtol=1e-12)
    np.testing.assert_allclose(each, want, rtol=1e-12)
    np.testing.assert_allclose(loss, want.sum() / divisor, rtol=1e-12)


def test_losses_of_positions_have_one_channel(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    text = 'top: "loss" top: "p" top: "each" ' + SOFTMAX.format("")
    shapes = (2, 3, 1, 2), (2, 1, 1, 2)
    *_, each = run(make_layer(text, *shapes), spread(*shapes[0]), np.ones(shapes[1]))
    assert each.shape == (2, 1, 1, 2)


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck, spread: Spread) -> None:
    check_gradient(make_layer(SOFTMAX.format(""), (5, 3), (5,)), spread(5, 3), LABELS)


def test_regions_with_the_largest_losses_are_kept(make_layer: LayerMaker, run: Runner) -> None:
    rois = np.zeros((6, 5))
    rois[:, 0] = [0, 1, 0, 0, 1, 0]
    losses = np.array([0.5, 0.1, 0.9, 0.9, 0.2, 0.1])
    labels = np.array([1, 2, 3, 4, 5, 6.0])
    weights = np.arange(1.0, 13).reshape(6, 2)
    shapes = (6, 5), (6,), (6,), (6, 2)
    layer = make_layer(ANNOTATOR.format("roi_per_img: 2 ignore_label: -7"), *shapes)
    kept, masked = run(layer, rois, losses, labels, weights)
    np.testing.assert_array_equal(kept.ravel(), [-7, 2, 3, 4, 5, -7])
    want = weights * np.array([0, 1, 1, 1, 1, 0])[:, None]
    np.testing.assert_array_equal(masked.reshape(6, 2), want)


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="roi_per_img is missing"):
        make_layer(ANNOTATOR.format(""), (2, 5), (2,), (2,), (2, 8))
    text = ANNOTATOR.format("roi_per_img: 1")
    with pytest.raises(NetError, match="five values"):
        make_layer(text, (2, 4), (2,), (2,), (2, 8))
    with pytest.raises(NetError, match="one value for each of 2 regions"):
        make_layer(text, (2, 5), (3,), (2,), (2, 8))
    with pytest.raises(NetError, match="the weights must belong to 2 regions"):
        make_layer(text, (2, 5), (2,), (2,), (3, 8))
