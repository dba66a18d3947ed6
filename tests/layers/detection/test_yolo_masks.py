from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

SHAPE = (2, 3, 4, 5)


def problem() -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return rng.normal(size=SHAPE), (rng.random(SHAPE) > 0.6).astype(np.float64)


@pytest.mark.parametrize("weighted", [False, True])
def test_loss(make_layer: LayerMaker, weighted: bool) -> None:
    x, masks = problem()
    counts = np.array([[3, 5, 20], [1, 0, 19]])
    others = [counts] if weighted else []
    layer = make_layer(
        'type: "YoloSeg" yolo_seg_param { object_scale: 1.5 }',
        SHAPE,
        SHAPE,
        *(c.shape for c in others),
    ).double()
    wanted = np.zeros(SHAPE)
    for index in np.ndindex(SHAPE):
        d = 1.5 * (1 / (1 + np.exp(-x[index])) - masks[index])
        if weighted and masks[index]:
            own = sum(counts[:, index[1]])
            d *= 2 - min(1, own / (40 - own))
        wanted[index] = d
    bottom = torch.tensor(x, requires_grad=True)
    value = layer(bottom, torch.tensor(masks), *(torch.tensor(c) for c in others))
    value.backward()
    assert value.item() == pytest.approx((wanted**2).sum() / 2)
    assert bottom.grad is not None
    np.testing.assert_allclose(bottom.grad, wanted / 2)


def test_a_class_that_fills_all_images_has_a_finite_loss(
    make_layer: LayerMaker, run: Runner
) -> None:
    x, masks = problem()
    full = np.array([[20, 20, 20], [20, 20, 20]])
    layer = make_layer('type: "YoloSeg"', SHAPE, SHAPE, full.shape)
    plain = make_layer('type: "YoloSeg"', SHAPE, SHAPE)
    np.testing.assert_allclose(run(layer, x, masks, full)[0], run(plain, x, masks)[0])
    empty = np.zeros((0, 3))
    np.testing.assert_allclose(run(layer, x[:0], masks[:0], empty)[0], 0)


def test_fit(make_layer: LayerMaker, run: Runner) -> None:
    x, masks = problem()
    x = 1 / (1 + np.exp(-x))
    masks[:, 1] = 0
    layer = make_layer(
        'type: "SegmentationEvaluate" segmentation_evaluate_param { threshold: 0.4 }', SHAPE, SHAPE
    )
    wanted = []
    for c in range(3):
        both = either = 0
        for index in np.ndindex(2, 4, 5):
            a = x[index[0], c, index[1], index[2]] > 0.4
            b = masks[index[0], c, index[1], index[2]] > 0.4
            both += a and b
            either += a or b
        wanted.append(both / either)
    (top,) = run(layer, x, masks)
    np.testing.assert_allclose(top[0, 0, 0], wanted)
    assert top[0, 0, 0, 1] == 0


@pytest.mark.parametrize("factor", [1, 2])
def test_fit_of_maps_of_another_size(make_layer: LayerMaker, run: Runner, factor: int) -> None:
    small = np.zeros((1, 2, 4, 4))
    small[:, 0, 1:3, 1:3] = 1
    large = small.repeat(2, 2).repeat(2, 3)
    x, masks = (small, large) if factor == 2 else (large, small)
    layer = make_layer('type: "SegmentationEvaluate"', x.shape, masks.shape)
    (top,) = run(layer, x, masks)
    assert top.shape == (1, 1, 1, 2)
    assert top[0, 0, 0, 0] > 0.7
    assert top[0, 0, 0, 1] == -1


@pytest.mark.parametrize(
    ("kind", "shapes", "message"),
    [
        ("YoloSeg", [(2, 3), (2, 3)], "takes scores N C H W, got shape 2 3"),
        ("YoloSeg", [SHAPE, (2, 3, 4, 4)], "masks must have a value for each score"),
        ("YoloSeg", [SHAPE, SHAPE, (2, 4)], "counts must have 3 values an item, got shape 2 4"),
        ("SegmentationEvaluate", [SHAPE, (2, 2, 4, 5)], "with the same N and C"),
    ],
)
def test_bad_shapes(make_layer: LayerMaker, kind: str, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "{kind}"', *shapes).top_shapes(*shapes)
