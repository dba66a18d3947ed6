from __future__ import annotations

from itertools import product
from math import exp, log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.types import Array

if TYPE_CHECKING:
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


@pytest.mark.parametrize("ignored", [None, 1])
@pytest.mark.parametrize(
    ("mode", "weights"),
    [("VALID", (2.0, 0.5, 0.0, 1.5)), ("BATCH_SIZE", (2.0, 0.5, 0.0, 1.5)), ("VALID", ())],
)
def test_weights_of_segnet(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    mode: str,
    weights: tuple[float, ...],
    ignored: int | None,
) -> None:
    fields = f"weight_by_label_freqs: true normalization: {mode} " + " ".join(
        f"class_weighting: {w}" for w in weights
    )
    more = "" if ignored is None else f"ignore_label: {ignored}"
    layer = make_layer(
        f'type: "SoftmaxWithLoss" loss_param {{ {fields} {more} }}', (3, 4, 2), (3, 2)
    )
    scores, labels = spread(3, 4, 2), np.array([[0, 1], [3, 1], [0, 0]])
    (loss,) = run(layer, scores, labels)
    total = valid = 0.0
    for n, p in product(range(3), range(2)):
        label = int(labels[n, p])
        if label != ignored:
            one = softmax_loss(
                scores[n : n + 1, :, p : p + 1], labels[n : n + 1, p : p + 1], None, "NONE"
            )
            total += one * (weights[label] if weights else 1 / (labels == label).sum())
            valid += 1
    assert loss == pytest.approx(total / (valid if mode == "VALID" else 3), rel=1e-12)  # double
    check_gradient(layer, scores, labels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("class_weighting: 1 class_weighting: 1", "class_weighting needs weight_by_label_freqs"),
        (
            "weight_by_label_freqs: true class_weighting: 1",
            "class_weighting must be given once for",
        ),
        ("weight_by_label_freqs: true class_weight: 1 class_weight: 1", "either class_weight or"),
        ("weight_by_label_freqs: true class_weighting: -1", "class_weighting must be >= 0"),
    ],
)
def test_weights_of_segnet_that_are_refused(
    make_layer: LayerMaker, fields: str, message: str
) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "SoftmaxWithLoss" loss_param {{ {fields} }}', (3, 2), (3,))


@pytest.mark.parametrize(
    ("mode", "factors", "divisor"),
    [
        ("VALID", [2, 0, 0.5, 1], 3.5),
        ("VALID", [0.1, 0, 0.2, 0], 1),  # at least 1
        ("FULL", [2, 0, 0.5, 1], 4),
        ("BATCH_SIZE", [2, 0, 0.5, 1], 2),
        ("NONE", [2, 0, 0.5, 1], 1),
    ],
)
def test_weights_of_positions(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    mode: str,
    factors: list[float],
    divisor: float,
) -> None:
    layer = make_layer(
        f'type: "SoftmaxWithLoss" loss_param {{ normalization: {mode} }}',
        (2, 3, 2), (2, 1, 2), (2, 2),
    )  # fmt: skip
    scores, weights = spread(2, 3, 2), np.reshape(factors, (2, 2))
    labels = np.array([[[0, -1]], [[2, 1]]])  # that of weight 0 is no class
    (loss,) = run(layer, scores, labels, weights)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    wanted = -sum(weights[n, i] * log(p[n, labels[n, 0, i], i]) for n, i in np.ndindex(2, 2))
    assert loss == pytest.approx(wanted / divisor, rel=1e-12)
    check_gradient(layer, scores, labels, weights)


def test_weights_of_positions_and_labels_that_do_not_count(make_layer: LayerMaker) -> None:
    layer = make_layer(
        'type: "SoftmaxWithLoss" loss_param { ignore_label: 7 class_weight: 3 class_weight: 1 }',
        (3, 2), (3,), (3,),
    )  # fmt: skip
    scores, labels = torch.zeros(3, 2), torch.tensor([7.0, 0, 1])
    loss = layer(scores, labels, torch.tensor([5.0, 2, 4]))
    assert float(loss) == pytest.approx(log(2))  # the weighted mean of equal losses


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


@pytest.mark.parametrize(
    ("fields", "axis", "mode"),
    [
        ("", 1, "VALID"),
        ("", -1, "VALID"),
        ("", 0, "VALID"),
        ("normalization: BATCH_SIZE", 1, "BATCH_SIZE"),
        ("normalization: NONE", 1, "NONE"),
    ],
)
def test_a_row_of_scores_for_each_label(
    make_layer: LayerMaker, run: Runner, spread: Spread, fields: str, axis: int, mode: str
) -> None:
    text = f'type: "SoftmaxWithLoss" softmax_param {{ axis: {axis} }} loss_param {{ {fields} }}'
    layer = make_layer(text, (3, 3), (3, 1))
    x, labels = spread(3, 3), np.array([[2], [0], [2]])
    rows = x.T if axis == 0 else x
    wanted = softmax_loss(rows[:, :, None], labels, None, mode)
    assert run(layer, x, labels)[0] == pytest.approx(wanted, rel=1e-12)  # double precision


@pytest.mark.parametrize("label", [-100, 2, -(2**62)])
def test_a_label_that_is_no_class_of_a_row(make_layer: LayerMaker, label: int) -> None:
    """-100 is what PyTorch's function leaves out."""
    layer = make_layer('type: "SoftmaxWithLoss"', (2, 2), (2,))
    with pytest.raises(DataError, match=f"label {label} is outside of the 2 classes"):
        layer(torch.zeros(2, 2), torch.tensor([0, float(label)]))


def test_one_impossible_label_of_several(make_layer: LayerMaker) -> None:
    """The floor is each probability's."""
    layer = make_layer('type: "SoftmaxWithLoss"', (2, 2), (2,))
    x = torch.tensor([[1000.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = layer(x, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert x.grad is not None
    assert loss.item() == pytest.approx((126 * log(2) + log(2)) / 2, rel=1e-6)  # FLT_MIN is 2^-126
    assert x.grad.tolist() == [[0.5, -0.5], [-0.25, 0.25]]


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ('type: "SoftmaxWithLoss"', [(2, 3), (3,)], "Number of labels must match number of pred"),
        ('type: "SoftmaxWithLoss"', [(2, 3, 4), (2,)], "need 8 labels, got shape 2"),
        ('type: "SoftmaxWithLoss"', [(2, 3), (2,), (3,)], "there are 2 labels and 3 weights"),
        ('type: "SoftmaxWithLoss" softmax_param { axis: 2 }', [(2, 3), (2,)], "axis 2 does not"),
    ],
)
def test_refused(make_layer: LayerMaker, text: str, shapes: list[Shape], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(text, *shapes)


MODES = {"FULL": 4, "VALID": 3, "BATCH_SIZE": 2, "NONE": 1}
OF_CLASSES: dict[str, list[float]] = {
    "": [1, 1, 1],
    "pos_mult: 2.5": [1, 2.5, 1],
    "pos_mult: 0.5 pos_cid: 2": [1, 1, 0.5],
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fields", OF_CLASSES)
@pytest.mark.parametrize("weighted", [True, False])
def test_weighted_softmax_with_loss(
    make_layer: LayerMaker,
    run: Runner,
    check_gradient: GradientCheck,
    spread: Spread,
    mode: str,
    fields: str,
    weighted: bool,
) -> None:
    """The divisor is a count of labels, whatever the weights."""
    scores, labels = spread(2, 3, 2), np.array([[[0, 1]], [[2, 7]]])
    weights = np.array([[4, 0.25], [0.5, 0]])
    bottoms = [scores, labels, weights][: 3 if weighted else 2]
    layer = make_layer(
        f'type: "WeightedSoftmaxWithLoss" softmax_param {{ {fields} }}'
        f" loss_param {{ normalization: {mode} ignore_label: 7 }}",
        *(b.shape for b in bottoms),
    )
    (loss,) = run(layer, *bottoms)
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    total = 0.0
    for (n, i), label in (((0, 0), 0), ((0, 1), 1), ((1, 0), 2)):
        weight = OF_CLASSES[fields][label] * (weights[n, i] if weighted else 1)
        total -= weight * log(p[n, label, i])
    assert loss == pytest.approx(total / MODES[mode], rel=1e-12)  # double precision
    check_gradient(layer, *bottoms)


def test_weighted_softmax_with_loss_shows_its_probabilities(
    make_layer: LayerMaker, run: Runner, spread: Spread
) -> None:
    layer = make_layer('type: "WeightedSoftmaxWithLoss" top: "l" top: "p"', (2, 3), (2,), (2,))
    _, probabilities = run(layer, spread(2, 3), np.array([2, 0]), np.array([1, 2]))
    assert probabilities.sum(1) == pytest.approx(1.0)


def test_a_class_that_there_is_not(make_layer: LayerMaker) -> None:
    text = 'type: "WeightedSoftmaxWithLoss" softmax_param { pos_cid: 3 pos_mult: %g }'
    make_layer(text % 1, (2, 3), (2,))
    with pytest.raises(NetError, match="pos_cid must be one of the 3 classes, got 3"):
        make_layer(text % 2, (2, 3), (2,))
    with pytest.raises(NetError, match="there are 2 labels and 3 weights"):
        make_layer('type: "WeightedSoftmaxWithLoss"', (2, 3), (2,), (3,))
