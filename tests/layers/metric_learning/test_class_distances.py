from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

    from moka.layers.base import Layer

X = np.random.default_rng(4).uniform(0.1, 2.0, (5, 4))
LABELS = np.array([0, 3, 1, 1, 2])
WEIGHTS = np.array([1.0, 0.5, 2.0, 3.0, 0.0])


def make(maker: LayerMaker, kind: str, message: str, fields: str, bottoms: int = 2) -> Layer:
    shapes = [X.shape, LABELS.shape, WEIGHTS.shape][:bottoms]
    text = f'type: "{kind}" {message} {{ {fields} }} top: "loss" top: "seen"'
    return maker(text, *shapes, training=True).double()


def gradient_of(layer: Layer, *more: np.ndarray) -> tuple[float, list[float], np.ndarray]:
    """The loss, the statistics and the gradient of X."""
    x = torch.tensor(X, requires_grad=True)
    loss, seen = layer(x, torch.tensor(LABELS), *(torch.tensor(m) for m in more))
    loss.backward()
    assert x.grad is not None
    return float(loss.detach()), seen.tolist(), x.grad.numpy()


CONTRASTIVE: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("positive_margin: 0.3 negative_margin: 1.4 positive_weight: 2 negative_weight: 3",
     {"pm": 0.3, "nm": 1.4, "pw": 2, "nw": 3}),
    ("negative_margin: 1.5 exp_negative_weight: true", {"nm": 1.5, "exponential": True}),
    ("negative_margin: 1.5 max_negative_only: true", {"nm": 1.5, "max_negative": True}),
    ("max_positive_only: true positive_outlier_thresh: 1.2", {"max_positive": True, "out": 1.2}),
    ("negative_margin: 2 positive_first: true positive_upper_bound: 0.7",
     {"nm": 2, "upper": 0.7}),
    ("negative_margin: 1.8 normalize_negative: 0.5", {"nm": 1.8, "norm": 0.5}),
    ("negative_margin: 1.8 normalize_negative: 0.5 exp_negative_weight: true negative_weight: 3",
     {"nm": 1.8, "norm": 0.5, "exponential": True, "nw": 3}),
]  # fmt: skip


def slow_contrastive(
    *,
    pm: float = 0.0,
    nm: float = 1.0,
    pw: float = 1.0,
    nw: float = 1.0,
    out: float = 4.0,
    exponential: bool = False,
    max_negative: bool = False,
    max_positive: bool = False,
    upper: float | None = None,
    norm: float | None = None,
) -> tuple[float, list[float], np.ndarray]:
    n, classes = X.shape
    value, slope = np.zeros_like(X), np.zeros_like(X)
    near = far = 0.0
    for i, label in enumerate(LABELS):
        for j in range(classes):
            d = X[i, j]
            if j == label:
                near += min(max(d - pm, 0), out)
                value[i, j] = pw * min(max(d - pm, 0), out)
                slope[i, j] = pw if pm < d < pm + out else 0
            elif d < nm:
                far += nm - d
                value[i, j] = nw * (exp(-d) if exponential else nm - d)
                slope[i, j] = -nw * (exp(-d) if exponential else 1)
        others = [j for j in range(classes) if j != label]
        best = max(others, key=lambda j: value[i, j])
        for j in others:
            dropped = max_negative and j != best
            if dropped or (upper is not None and X[i, label] > upper):
                value[i, j] = slope[i, j] = 0
    if max_positive:
        least = min(range(n), key=lambda i: value[i, LABELS[i]])
        for i in range(n):
            if i != least:
                value[i, LABELS[i]] = slope[i, LABELS[i]] = 0
    if norm is not None:
        scale = sum(-s for s in slope.ravel() if s < 0) / norm / n
        if scale > pw:
            slope[slope < 0] /= scale
    return value.sum() / n, [near / n, far / n / (classes - 1)], slope / n


@pytest.mark.parametrize(("fields", "options"), CONTRASTIVE)
def test_general_contrastive(make_layer: LayerMaker, fields: str, options: dict[str, Any]) -> None:
    layer = make(make_layer, "GeneralContrastiveLoss", "general_contrastive_loss_param", fields)
    loss, seen, gradient = gradient_of(layer)
    want, statistics, slope = slow_contrastive(**options)
    assert loss == pytest.approx(want)
    assert seen == pytest.approx(statistics)
    np.testing.assert_allclose(gradient, slope, atol=1e-12)


def test_the_running_mean_moves_the_margin(make_layer: LayerMaker) -> None:
    fields = "negative_margin: 1 add_intra_mae: true max_negative_margin: 0.011"
    kind, message = "GeneralContrastiveLoss", "general_contrastive_loss_param"
    layer, again = (make(make_layer, kind, message, fields) for _ in range(2))
    mean, margin = 0.0, 1.0
    for _ in range(3):
        loss, seen, _ = gradient_of(layer)
        want, statistics, _ = slow_contrastive(nm=1 + mean)
        mean = min(0.99 * mean + 0.01 * statistics[0], 0.011)
        assert loss == pytest.approx(want)
        assert seen == pytest.approx([*statistics, mean])
    assert margin + mean == pytest.approx(1.011)
    repeated = layer.again(torch.tensor(X), torch.tensor(LABELS))
    assert float(repeated[0]) == pytest.approx(loss)
    again.load_run_state(layer.run_state())
    assert gradient_of(again)[0] == pytest.approx(gradient_of(layer)[0])


@pytest.mark.parametrize("square", [False, True])
def test_soft_contrastive(
    make_layer: LayerMaker, check_gradient: GradientCheck, *, square: bool
) -> None:
    layer = make(
        make_layer,
        "SoftContrastiveLoss",
        "soft_contrastive_loss_param",
        f"positive_margin: 0.2 negative_margin: 1.1 positive_weight: 2 negative_weight: 3"
        f" exponent_scale: 7 square: {str(square).lower()}",
    )
    power = 2 if square else 1
    want = 0.0
    for row, label in zip(X, LABELS, strict=True):
        want += 2 * min(max(row[label] - 0.2, 0), 4) ** power
        near = [1.1 - d for j, d in enumerate(row) if j != label and d < 1.1]
        want += log(sum(exp(3 * v**power) for v in near)) if near else 0
    assert gradient_of(layer)[0] == pytest.approx(want / len(X))
    check_gradient(layer, X, LABELS)


@pytest.mark.parametrize("fields", ["", "hardest_only: true", "add_center_loss: false",
                                    "positive_first: true positive_upper_bound: 0.9"])  # fmt: skip
def test_general_triplet(make_layer: LayerMaker, fields: str) -> None:
    fixed = "margin: 0.4 positive_weight: 2 negative_weight: 3"
    layer = make(
        make_layer, "GeneralTripletLoss", "general_triplet_loss_param", f"{fixed} {fields}"
    )
    n, classes = X.shape
    value, slope = np.zeros_like(X), np.zeros_like(X)
    for i, label in enumerate(LABELS):
        own = X[i, label]
        others = [j for j in range(classes) if j != label]
        if "positive_first" in fields and own > 0.9:
            slope[i, label] = 2
            continue
        if "hardest" in fields:
            others = [min(others, key=lambda j: X[i, j])]
        for j in others:
            value[i, j] = 3 * max(own + 0.4 - X[i, j], 0)
            slope[i, j] = -3 if value[i, j] > 0 else 0
        if value[i].any() or "add_center_loss: false" not in fields:
            slope[i, label] = 2
    loss, seen, gradient = gradient_of(layer)
    assert loss == pytest.approx(value.sum() / n)
    np.testing.assert_allclose(gradient, slope / n, atol=1e-12)
    own = X[np.arange(n), LABELS]
    assert seen == pytest.approx([own.mean(), (X.sum() - own.sum()) / n / (classes - 1)])


@pytest.mark.parametrize("only", [False, True])
def test_nca(make_layer: LayerMaker, check_gradient: GradientCheck, *, only: bool) -> None:
    layer = make(make_layer, "NCALoss", "nca_param", f"min_negative_only: {str(only).lower()}")
    want = 0.0
    for row, label in zip(X, LABELS, strict=True):
        terms = [exp(-d) for j, d in enumerate(row) if j != label]
        want += row[label] + (max(terms) if only else sum(terms))
    assert gradient_of(layer)[0] == pytest.approx(want / len(X))
    check_gradient(layer, X, LABELS)


@pytest.mark.parametrize(
    ("kind", "message", "relative"),
    [
        ("GeneralContrastiveLoss", "general_contrastive_loss_param", True),
        ("SoftContrastiveLoss", "soft_contrastive_loss_param", True),
        ("NCALoss", "nca_param", True),
        ("GeneralTripletLoss", "general_triplet_loss_param", False),
    ],
)
def test_weights_multiply_the_gradient_of_items(
    make_layer: LayerMaker, kind: str, message: str, *, relative: bool
) -> None:
    plain = gradient_of(make(make_layer, kind, message, ""))
    weighted = gradient_of(make(make_layer, kind, message, "", 3), WEIGHTS)
    factor = WEIGHTS / WEIGHTS.mean() if relative else WEIGHTS
    assert weighted[0] == pytest.approx(plain[0])
    np.testing.assert_allclose(weighted[2], plain[2] * factor[:, None])


def test_bad_input(make_layer: LayerMaker, run: Runner) -> None:
    with pytest.raises(NetError, match="two classes or more"):
        make_layer('type: "NCALoss"', (2, 1), (2,))
    with pytest.raises(NetError, match="same first dimension"):
        make_layer('type: "NCALoss"', (2, 3), (2,), (3,))
    layer = make_layer('type: "NCALoss"', (2, 3), (2,))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, np.ones((2, 3)), np.array([0, 3]))
