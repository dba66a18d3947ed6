from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


@pytest.mark.parametrize(("a", "b"), [((3, 4), (3, 4)), ((2, 2, 3), (2, 6)), ((2, 1), (2,))])
def test_euclidean(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    a: Shape,
    b: Shape,
) -> None:
    layer = make_layer('type: "EuclideanLoss"', a, b)
    left, right = spread(*a), spread(*b)
    (loss,) = run(layer, left, right)
    squares = [(p - q) ** 2 for p, q in zip(left.flat, right.flat, strict=True)]
    assert loss == pytest.approx(sum(squares) / (2 * a[0]), rel=1e-12)  # double precision
    check_gradient(layer, left, right)


def contrast(a: Array, b: Array, similar: Array, margin: float, *, legacy: bool) -> float:
    total = 0.0
    for x, y, s in zip(a, b, similar, strict=True):
        squared = sum((float(p) - float(q)) ** 2 for p, q in zip(x.flat, y.flat, strict=True))
        if s:
            total += squared
        elif legacy:
            total += max(margin - squared, 0.0)
        else:
            total += max(margin - squared**0.5, 0.0) ** 2
    return total / (2 * len(a))


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 1, 1)])
@pytest.mark.parametrize(
    ("fields", "margin", "legacy"),
    [
        ("", 1.0, False),
        ("margin: 4", 4.0, False),
        ("legacy_version: true", 1.0, True),
        ("margin: 4 legacy_version: true", 4.0, True),
    ],
)
def test_contrastive(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    fields: str,
    margin: float,
    legacy: bool,
    shape: Shape,
) -> None:
    text = f'type: "ContrastiveLoss" contrastive_loss_param {{ {fields} }}'
    layer = make_layer(text, shape, shape, (4,))
    similar = np.array([1, 0, 0, 0])
    a = spread(*shape)
    b = a + np.array([0.3, 0.2, 0.9, 8.0]).reshape(4, *(1,) * (len(shape) - 1))
    (loss,) = run(layer, a, b, similar)
    wanted = contrast(a, b, similar, margin, legacy=legacy)
    assert loss == pytest.approx(wanted, rel=1e-12)  # double precision
    tensors = [torch.from_numpy(v).requires_grad_() for v in (a, b)]
    layer(*tensors, torch.from_numpy(similar)).backward()
    for n in range(4):
        apart = (a - b)[n].ravel()
        d = (apart**2).sum() ** 0.5
        if similar[n]:
            slope = 1.0
        elif legacy:
            slope = -1.0 if margin > d * d else 0.0
        else:
            slope = -max(margin - d, 0.0) / (d + 1e-4)  # Caffe's guard
        for sign, tensor in zip((1, -1), tensors, strict=True):
            assert tensor.grad is not None
            got = tensor.grad[n].flatten()
            np.testing.assert_allclose(got, sign * slope * apart / 4, rtol=1e-11, atol=1e-13)


def test_equal_items_that_should_differ_get_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "ContrastiveLoss"', (1, 2), (1, 2), (1,))
    a = torch.ones(1, 2, requires_grad=True)
    loss = layer(a, torch.ones(1, 2), torch.zeros(1))
    loss.backward()
    assert loss.item() == 0.5
    assert a.grad is not None
    assert a.grad.tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "EuclideanLoss"', [(2, 3), (3, 2)], "must have the same dimension"),
        ('type: "EuclideanLoss"', [(2, 3), (2, 2)], "must have the same dimension"),
        ('type: "ContrastiveLoss"', [(2, 3), (2, 4), (2,)], r"takes two blobs \(N, C\), got"),
        ('type: "ContrastiveLoss"', [(2, 3, 2), (2, 3, 2), (2,)], "takes two blobs"),
        ('type: "ContrastiveLoss"', [(2, 3), (2, 3), (3,)], "one similarity for each of 2 pairs"),
        ('type: "EuclideanLoss"', [(), ()], r"at least 1 axis, got shape \(\)"),
        ('type: "ContrastiveLoss"', [(), (), ()], "at least 1 axis"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


def test_euclidean_with_weights(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    layer = make_layer('type: "EuclideanLoss"', (3, 4), (3, 4), (3, 4, 1, 1))
    a, b, w = spread(3, 4), spread(3, 4), spread(3, 4, 1, 1)
    (loss,) = run(layer, a, b, w)
    squares = [(r * (p - q)) ** 2 for p, q, r in zip(a.flat, b.flat, w.flat, strict=True)]
    assert loss == pytest.approx(sum(squares) / 6, rel=1e-12)
    check_gradient(layer, a, b, w)


@pytest.mark.parametrize("fourth", [False, True])
def test_pairs_with_two_labels_and_their_matches(
    make_layer: LayerMaker, run: Runner, *, fourth: bool
) -> None:
    a, b = np.random.default_rng(2).normal(size=(2, 4, 3))
    labels = np.array([[0, 0], [1, 2], [0, 3], [4, 4]], float)
    more = [labels[:, :1], labels[:, 1:]] if fourth else [labels]
    text = 'type: "ContrastiveLoss" contrastive_loss_param { output_matches: true margin: 2 }'
    layer = make_layer(f'{text} top: "x" top: "y"', a.shape, b.shape, *(m.shape for m in more))
    want, matches = 0.0, []
    for x, y, (first, second) in zip(a, b, labels, strict=True):
        d = np.sqrt(((x - y) ** 2).sum())
        want += d**2 if first == second else max(2 - d, 0) ** 2
        matches.append(float((first == second) == (d <= 2)))
    loss, seen = run(layer, a, b, *more)
    assert loss == pytest.approx(want / 8)
    assert seen.ravel().tolist() == matches


def test_what_contrastive_loss_lacks(make_layer: LayerMaker) -> None:
    shapes = ((4, 3), (4, 3), (4,))
    with pytest.raises(NetError, match="makes 1 top with these options, got 2"):
        make_layer('type: "ContrastiveLoss" top: "x" top: "y"', *shapes)
    with pytest.raises(NetError, match="centroid_learning: ALL is not supported"):
        make_layer(
            'type: "ContrastiveLoss" contrastive_loss_param { centroid_learning: ALL }', *shapes
        )


def test_contrastive_with_axes_of_one(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    a, b, similar = spread(3, 4), spread(3, 4), np.array([1.0, 0.0, 1.0])
    plain = run(make_layer('type: "ContrastiveLoss"', (3, 4), (3, 4), (3,)), a, b, similar)
    layer = make_layer('type: "ContrastiveLoss"', (3, 4, 1), (3, 4), (3,))
    assert run(layer, a[..., None], b, similar)[0] == plain[0]


def test_heatmaps(make_layer: LayerMaker, run: Runner, spread: Spread) -> None:
    """The gradient is the difference, divided by nothing."""
    a, b = spread(2, 3, 4, 5), spread(2, 3, 4, 5)
    text = 'type: "EuclideanLossHeatmap" visualise: true visualise_channel: 2'
    layer = make_layer(text, a.shape, b.shape, (2, 3, 8, 8))
    (loss,) = run(layer, a, b, np.zeros((2, 3, 8, 8)))
    assert loss == pytest.approx(((a - b) ** 2).mean(), rel=1e-12)  # double precision
    x = torch.from_numpy(a).requires_grad_()
    (2 * layer(x, torch.from_numpy(b))).backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad, 2 * (a - b), rtol=1e-12)


def test_heatmaps_of_different_shapes(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="the maps and their targets have different shapes"):
        make_layer('type: "EuclideanLossHeatmap"', (2, 3, 4, 5), (2, 3, 5, 4))


def test_loc_loss(
    make_layer: LayerMaker, run: Runner, check_gradient: GradientCheck, spread: Spread
) -> None:
    x = spread(3, 4)
    layer = make_layer('type: "LocLoss" loc_loss_param { threshold: 0.2 }', x.shape)
    beyond = np.maximum(np.abs(x) - 0.2, 0)
    (loss,) = run(layer, x)
    assert loss == pytest.approx((beyond**2 / 2).mean(), rel=1e-12)
    check_gradient(layer, x)
    with pytest.raises(NetError, match="threshold is missing"):
        make_layer('type: "LocLoss"', (2,))
    with pytest.raises(NetError, match="threshold must be > 0"):
        make_layer('type: "LocLoss" loc_loss_param { threshold: 0 }', (2,))
