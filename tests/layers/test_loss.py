from __future__ import annotations

from itertools import product
from math import exp, log, log1p
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.schema.blobproto import from_array
from moka.types import Array

if TYPE_CHECKING:
    from pathlib import Path

    from tests.layers.conftest import GradientCheck, LayerMaker, Runner, Spread

    from moka.types import Shape


def softmax_loss(scores: Array, labels: Array, ignored: int | None, mode: str) -> float:
    """Scores (outer, classes, inner), labels (outer, inner)."""
    outer, _, inner = scores.shape
    total, valid = 0.0, 0
    for n, p in product(range(outer), range(inner)):
        label = int(labels[n, p])
        if label == ignored:
            continue
        valid += 1
        line = scores[n, :, p]
        total += log(sum(exp(float(v)) for v in line)) - line[label]
    parts = {"FULL": outer * inner, "VALID": valid, "BATCH_SIZE": outer, "NONE": 1}
    return total / max(parts[mode], 1)


@pytest.mark.parametrize("ignored", [None, 1, 255])
@pytest.mark.parametrize(
    ("fields", "mode"),
    [
        ("", "VALID"),
        ("normalization: FULL", "FULL"),
        ("normalization: VALID", "VALID"),
        ("normalization: BATCH_SIZE", "BATCH_SIZE"),
        ("normalization: NONE", "NONE"),
        ("normalize: false", "BATCH_SIZE"),
        ("normalize: true", "VALID"),
        ("normalize: false normalization: FULL", "FULL"),
    ],
)
def test_softmax_with_loss(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    fields: str,
    mode: str,
    ignored: int | None,
) -> None:
    more = "" if ignored is None else f"ignore_label: {ignored}"
    layer = make_layer(
        f'type: "SoftmaxWithLoss" loss_param {{ {fields} {more} }}', (3, 4, 2), (3, 2)
    )
    scores, labels = spread(3, 4, 2), np.array([[0, 1], [3, 1], [2, 0]])
    if ignored == 255:
        labels[0, 0] = 255
    (loss,) = run(layer, scores, labels)
    # Both in double precision.
    assert loss == pytest.approx(softmax_loss(scores, labels, ignored, mode), rel=1e-12)
    check_gradient(layer, scores, labels)


@pytest.mark.parametrize(
    ("axis", "scores", "labels", "view"),
    [
        (1, (3, 4), (3,), (3, 4, 1)),
        (1, (3, 4), (3, 1, 1, 1), (3, 4, 1)),
        (-1, (2, 3, 4), (2, 3), (6, 4, 1)),
        (0, (4, 3), (3,), (1, 4, 3)),
        (1, (2, 4, 2, 3), (2, 1, 2, 3), (2, 4, 6)),
    ],
)
def test_softmax_with_loss_along_any_axis(
    make_layer: LayerMaker,
    run: Runner,
    spread: Spread,
    axis: int,
    scores: Shape,
    labels: Shape,
    view: Shape,
) -> None:
    text = f'type: "SoftmaxWithLoss" softmax_param {{ axis: {axis} }}'
    layer = make_layer(text, scores, labels)
    x = spread(*scores)
    t = np.arange(int(np.prod(labels))).reshape(labels) % 4
    (loss,) = run(layer, x, t)
    wanted = softmax_loss(x.reshape(view), t.reshape(view[0], view[2]), None, "VALID")
    assert loss == pytest.approx(wanted, rel=1e-12)  # double precision


def weighted_softmax_loss(
    scores: Array,
    labels: Array,
    *,
    weights: list[float],
    smoothing: float,
    ignored: int | None,
    mode: str,
) -> float:
    """Scores (outer, classes, inner), labels (outer, inner)."""
    outer, classes, inner = scores.shape
    total, valid = 0.0, 0.0
    for n, k in product(range(outer), range(inner)):
        label = int(labels[n, k])
        if label == ignored:
            continue
        valid += weights[label]
        line = scores[n, :, k]
        for c in range(classes):
            target = smoothing / classes + (1 - smoothing if c == label else 0.0)
            nll = log(sum(exp(float(v)) for v in line)) - line[c]
            total += weights[c] * target * nll
    if mode == "VALID":
        return total / valid if valid else total
    return total / {"FULL": outer * inner, "BATCH_SIZE": outer, "NONE": 1}[mode]


@pytest.mark.parametrize("ignored", [None, 1, 255])
@pytest.mark.parametrize("mode", ["VALID", "FULL", "BATCH_SIZE", "NONE"])
@pytest.mark.parametrize(
    ("weights", "smoothing"),
    [
        ([0.5, 2.0, 0.25, 0.0], 0.0),
        ([0.03125, 0.0625, 0.125, 0.0], 0.0),  # whose sum is below 1
        ([1.0, 1.0, 1.0, 1.0], 0.0),
        ([], 0.25),
        ([0.5, 2.0, 0.25, 0.0], 0.25),
    ],
)
def test_class_weights_and_label_smoothing(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    weights: list[float],
    smoothing: float,
    mode: str,
    ignored: int | None,
) -> None:
    fields = [f"normalization: {mode}", *(f"class_weight: {w}" for w in weights)]
    if ignored is not None:
        fields.append(f"ignore_label: {ignored}")
    if smoothing:
        fields.append(f"label_smoothing: {smoothing}")
    layer = make_layer(
        f'type: "SoftmaxWithLoss" loss_param {{ {" ".join(fields)} }}', (3, 4, 2), (3, 2)
    )
    scores, labels = spread(3, 4, 2), np.array([[0, 1], [3, 1], [2, 0]])
    if ignored == 255:
        labels[0, 0] = 255
    (loss,) = run(layer, scores, labels)
    wanted = weighted_softmax_loss(
        scores,
        labels,
        weights=weights or [1.0] * 4,
        smoothing=smoothing,
        ignored=ignored,
        mode=mode,
    )
    assert loss == pytest.approx(wanted, rel=1e-12)  # both in double precision
    check_gradient(layer, scores, labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.125])
def test_weights_and_smoothing_are_pytorchs(make_layer: LayerMaker, smoothing: float) -> None:
    weights = [0.5, 2.0, 0.25]
    fields = " ".join(f"class_weight: {w}" for w in weights)
    layer = make_layer(
        f'type: "SoftmaxWithLoss" loss_param {{ {fields} label_smoothing: {smoothing}'
        " ignore_label: 255 }",
        (4, 3),
        (4,),
    )
    x, labels = torch.randn(4, 3), torch.tensor([0, 2, 255, 1])
    wanted = torch.nn.functional.cross_entropy(
        x, labels, torch.tensor(weights), ignore_index=255, label_smoothing=smoothing
    )
    torch.testing.assert_close(layer(x, labels.float()), wanted)


def test_weighted_and_everything_ignored(make_layer: LayerMaker) -> None:
    text = 'type: "SoftmaxWithLoss" loss_param { ignore_label: 1 label_smoothing: 0.1 }'
    x = torch.randn(2, 3, requires_grad=True)
    loss = make_layer(text, (2, 3), (2,))(x, torch.ones(2))
    loss.backward()
    assert x.grad is not None
    assert loss.item() == 0
    assert not x.grad.any()


def test_a_weighted_impossible_label_is_floored_but_keeps_its_gradient(
    make_layer: LayerMaker,
) -> None:
    text = 'type: "SoftmaxWithLoss" loss_param { class_weight: 1 class_weight: 2 }'
    layer = make_layer(text, (1, 2), (1,))
    x = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = layer(x, torch.tensor([1.0]))
    loss.backward()
    assert x.grad is not None
    assert loss.item() == pytest.approx(-log(1.1754943508222875e-38), rel=1e-6)
    assert x.grad.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("class_weight: 1 class_weight: 2", "once for each of 3 classes, got 2"),
        ("class_weight: 1 class_weight: 2 class_weight: -1", "class_weight must be >= 0, got -1"),
        ("label_smoothing: 1", r"label_smoothing must be in \[0, 1\), got 1"),
        ("label_smoothing: -0.1", r"label_smoothing must be in \[0, 1\), got -0.1"),
    ],
)
def test_weights_and_smoothing_that_are_refused(
    make_layer: LayerMaker, fields: str, says: str
) -> None:
    with pytest.raises(NetError, match=says):
        make_layer(f'type: "SoftmaxWithLoss" loss_param {{ {fields} }}', (2, 3), (2,))


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


def test_everything_ignored_gives_no_loss_and_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SoftmaxWithLoss" loss_param { ignore_label: 1 }', (2, 3), (2,))
    x = torch.randn(2, 3, requires_grad=True)
    loss = layer(x, torch.ones(2))
    loss.backward()
    assert x.grad is not None
    assert loss.item() == 0
    assert not x.grad.any()


def test_softmax_with_loss_shows_its_probabilities(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    layer = make_layer('type: "SoftmaxWithLoss" top: "l" top: "p"', (2, 3), (2,))
    x = spread(2, 3)
    loss, probabilities = run(layer, x, np.array([2, 0]))
    assert probabilities.sum(1) == pytest.approx(1.0)
    mean = -(log(probabilities[0, 2]) + log(probabilities[1, 0])) / 2
    assert loss == pytest.approx(mean, rel=1e-12)  # double precision


def test_an_impossible_label_is_floored_but_keeps_its_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "SoftmaxWithLoss"', (1, 2), (1,))
    x = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    loss = layer(x, torch.tensor([1.0]))
    loss.backward()
    assert x.grad is not None
    # -log(FLT_MIN); single precision.
    assert loss.item() == pytest.approx(-log(1.1754943508222875e-38), rel=1e-6)
    assert x.grad.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("kind", ["SoftmaxWithLoss", "HingeLoss", "MultinomialLogisticLoss"])
def test_a_label_out_of_range_is_an_error_of_the_data(make_layer: LayerMaker, kind: str) -> None:
    layer = make_layer(f'type: "{kind}"', (2, 3), (2,))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        layer(torch.zeros(2, 3), torch.tensor([0.0, 3.0]))


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


@pytest.mark.parametrize("norm", ["", "norm: L1", "norm: L2"])
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_hinge(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    norm: str,
    shape: Shape,
) -> None:
    layer = make_layer(f'type: "HingeLoss" hinge_loss_param {{ {norm} }}', shape, (3,))
    x, labels = spread(*shape) * 3 + 0.01, np.array([2, 0, 3])
    (loss,) = run(layer, x, labels)
    total = 0.0
    for n, c in product(range(3), range(4)):
        margin = max(0.0, 1 - (1 if c == labels[n] else -1) * x.reshape(3, 4)[n, c])
        total += margin**2 if "L2" in norm else margin
    assert loss == pytest.approx(total / 3, rel=1e-12)  # double precision
    check_gradient(layer, x, labels)


def test_hinge_at_its_kink_has_no_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "HingeLoss"', (1, 2), (1,))
    x = torch.tensor([[1.0, -1.0]], requires_grad=True)
    loss = layer(x, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == 0
    assert x.grad is not None
    assert not x.grad.any()


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


def test_a_probability_of_zero_is_floored_but_keeps_its_gradient(make_layer: LayerMaker) -> None:
    layer = make_layer('type: "MultinomialLogisticLoss"', (1, 2), (1,))
    p = torch.tensor([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    loss = layer(p, torch.tensor([0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(-log(1e-20), rel=1e-12)  # double precision
    assert p.grad is not None
    assert p.grad[0].tolist() == pytest.approx([-1e20, 0], rel=1e-12)


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
        ('type: "SoftmaxWithLoss"', [(2, 3), (3,)], "Number of labels must match number of pred"),
        ('type: "SoftmaxWithLoss"', [(2, 3, 4), (2,)], "need 8 labels, got shape 2"),
        ('type: "SoftmaxWithLoss" softmax_param { axis: 2 }', [(2, 3), (2,)], "axis 2 does not"),
        ('type: "SigmoidCrossEntropyLoss"', [(2, 3), (2, 2)], "must have the same count"),
        ('type: "EuclideanLoss"', [(2, 3), (3, 2)], "must have the same dimension"),
        ('type: "EuclideanLoss"', [(2, 3), (2, 2)], "must have the same dimension"),
        ('type: "HingeLoss"', [(2, 3), (1,)], "should have the same first dimension: 2 items"),
        ('type: "HingeLoss"', [(2, 3), (2, 2)], r"labels of shape 2 2 \(4\)"),
        ('type: "MultinomialLogisticLoss"', [(2, 3), (1,)], "the same first dimension: 2 items"),
        ('type: "ContrastiveLoss"', [(2, 3), (2, 4), (2,)], r"takes two blobs \(N, C\), got"),
        ('type: "ContrastiveLoss"', [(2, 3, 2), (2, 3, 2), (2,)], "takes two blobs"),
        ('type: "ContrastiveLoss"', [(2, 3), (2, 3), (3,)], "one similarity for each of 2 pairs"),
        ('type: "InfogainLoss"', [(2, 3), (2,)], "Infogain matrix source must be specified"),
        ('type: "InfogainLoss"', [(2, 3), (2,), (3, 2)], "must have 3 x 3 values, found 6"),
        ('type: "InfogainLoss"', [(2, 3), (3,), (3, 3)], "Number of labels must match"),
        ('type: "EuclideanLoss"', [(), ()], r"at least 1 axis, got shape \(\)"),
        ('type: "SigmoidCrossEntropyLoss"', [(), ()], "at least 1 axis"),
        ('type: "HingeLoss"', [(), ()], "at least 1 axis"),
        ('type: "MultinomialLogisticLoss"', [(), ()], "at least 1 axis"),
        ('type: "ContrastiveLoss"', [(), (), ()], "at least 1 axis"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)
