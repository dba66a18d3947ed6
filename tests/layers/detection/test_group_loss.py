from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import GradientCheck, LayerMaker, Runner

    from moka.types import Array

N, G, C, H, W = 2, 2, 3, 3, 4  # images, fields, classes
SCORES, DELTAS, TRUTH = (N * G, C, H, W), (N * G, 4, H, W), (N * G, 6, H, W)
SHAPES = SCORES, DELTAS, TRUTH
SIZES = [(20, 16), (10, 30)]
FIELDS = "field_w: 20 field_h: 16 field_w: 10 field_h: 30 stride: 8"
CELLS = ((0, 1, 1, 1, 0.7), (1, 2, 3, 2, 0.6), (2, 0, 2, 2, 0.9))


def loss(fields: str = "") -> str:
    fields = f"cls_num: {C} {FIELDS} {fields}"
    return f'type: "DetectionGroupLoss" detection_group_loss_param {{ {fields} }}'


def blobs() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(3)
    truth = np.zeros(TRUTH)
    truth[:, 5] = rng.uniform(0, 0.25, (N * G, H, W))
    for k, i, j, label, shared in CELLS:
        truth[k, :, i, j] = [label, 8 * j + 5, 8 * i + 3, 18, 14, shared]
    truth[3, 5, 2, 2] = 0.6
    return rng.normal(0, 0.5, SCORES), rng.normal(0, 0.15, DELTAS), truth


def of_class(scores: Array, label: int) -> float:
    return float(np.log(np.exp(scores).sum()) - scores[label])


def slow_loss(
    bottoms: tuple[Array, Array, Array],
    background: list[tuple[int, int, int]],
    factor: float = 1,
    share: float | None = None,
    square: bool = False,
) -> list[float]:
    """Given the background cells (map, y, x) that count."""
    scores, deltas, truth = bottoms
    positive = [(k, i, j) for k, i, j, *_ in CELLS]
    total = len(positive) + len(background)
    weights = (1.0, 1.0)
    if share is not None:
        weights = share * total / len(positive), (1 - share) * total / len(background)
    classes = sum(
        weights[0] * of_class(scores[k, :, i, j], int(truth[k, 0, i, j])) for k, i, j in positive
    ) + sum(weights[1] * of_class(scores[k, :, i, j], 0) for k, i, j in background)
    boxes = 0.0
    for k, i, j in positive:
        size = np.array(SIZES[k % G])
        moved = (truth[k, 1:3, i, j] - 8 * (np.array([j, i]) + 0.5)) / size
        grown = np.log(truth[k, 3:5, i, j] / size)
        d = deltas[k, :, i, j] - np.concatenate([moved, grown])
        small = 0.5 * d * d
        boxes += (small if square else np.where(abs(d) < 1, small, abs(d) - 0.5)).sum()
    boxes *= factor / (4 * len(positive))
    return [classes / total + boxes, boxes]


def background_of(truth: Array) -> list[tuple[int, int, int]]:
    found = np.nonzero((truth[:, 0] == 0) & (truth[:, 5] < 0.5))
    return [(int(k), int(i), int(j)) for k, i, j in zip(*found, strict=True)]


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ("", {}),
        ("lambda: 2", {"factor": 2}),
        ("pos_neg_weighted: true", {"share": 1 / 1001}),
        ('bbox_loss_type: "Euclidean_L2"', {"square": True}),
    ],
)
def test_with_all_background_cells(
    make_layer: LayerMaker, run: Runner, fields: str, form: dict[str, float]
) -> None:
    bottoms = blobs()
    text = loss(f"bg_threshold: 0.5 bg_multiple: 1000 {fields}")
    (top,) = run(make_layer(text, *SHAPES), *bottoms)
    want = slow_loss(bottoms, background_of(bottoms[2]), **form)  # type: ignore[arg-type]
    np.testing.assert_allclose(top.ravel(), want, rtol=1e-9)


@pytest.mark.parametrize("ranking", ["conf_loss", "conf_prob"])
def test_hard_cells_of_an_image(make_layer: LayerMaker, run: Runner, ranking: str) -> None:
    """Over all fields of an image: three times its positive cells, at least four."""
    bottoms = blobs()
    text = loss(
        'bg_threshold: 0.5 bg_multiple: 3 min_num_neg: 4 neg_mining_type: "bootstrap"'
        f' neg_ranking_type: "{ranking}"'
    )
    (top,) = run(make_layer(text, *SHAPES), *bottoms)
    hard = []
    for image, count in ((0, 6), (1, 4)):
        cells = [cell for cell in background_of(bottoms[2]) if cell[0] // G == image]
        cells.sort(key=lambda cell: -of_class(bottoms[0][cell[0], :, cell[1], cell[2]], 0))
        hard += cells[:count]
    np.testing.assert_allclose(top.ravel(), slow_loss(bottoms, hard), rtol=1e-9)


def test_of_equally_hard_cells_the_last_count(make_layer: LayerMaker) -> None:
    text = loss('bg_threshold: 0.5 min_num_neg: 5 neg_mining_type: "bootstrap"')
    layer = make_layer(text, *SHAPES).double()
    scores, deltas, truth = (torch.zeros(shape, dtype=torch.float64) for shape in SHAPES)
    top = layer(scores.requires_grad_(), deltas, truth)
    assert isinstance(top, torch.Tensor)
    torch.autograd.backward(top.sum())
    assert scores.grad is not None
    counted = scores.grad[:, 0].reshape(N, -1) != 0
    assert counted.nonzero()[:, 1].tolist() == [*range(G * H * W - 5, G * H * W)] * N


@pytest.mark.parametrize("mining", ["random", "mixture", "bootstrap"])
def test_so_many_cells_count(make_layer: LayerMaker, run: Runner, mining: str) -> None:
    """With equal scores the loss of the classes says nothing, so count by the gradient."""
    torch.manual_seed(0)
    scores, deltas, truth = map(torch.from_numpy, blobs())
    text = loss(f'bg_threshold: 0.5 bg_multiple: 3 batch_size: 4 neg_mining_type: "{mining}"')
    scores.requires_grad_()
    top = make_layer(text, *SHAPES).double()(scores, deltas, truth)
    assert isinstance(top, torch.Tensor)
    torch.autograd.backward(top.sum())
    assert scores.grad is not None
    counted = (scores.grad != 0).any(1)
    assert counted.view(N, -1).sum(1).tolist() == [4, 4]  # one of them positive
    assert (counted & (truth[:, 0] > 0)).sum() == 2
    assert not counted[3, 2, 2]


def test_objects_of_any_class(make_layer: LayerMaker, run: Runner) -> None:
    scores, deltas, truth = blobs()
    scores = scores[:, 1:]
    text = loss("bg_multiple: 1000").replace("cls_num: 3", "cls_num: 2")
    shapes = scores.shape, DELTAS, TRUTH
    one = truth.copy()
    one[:, 0] = truth[:, 0] > 0
    want = run(make_layer(text, *shapes), scores, deltas, one)
    text = text.replace("cls_num", "objectness: true cls_num")
    np.testing.assert_allclose(run(make_layer(text, *shapes), scores, deltas, truth), want)


def test_limits(make_layer: LayerMaker, run: Runner) -> None:
    """Only if both are given: then deltas beyond them count as the limits."""
    scores, deltas, truth = blobs()
    deltas[:, 0] = 5
    limited = deltas.copy()
    limited[:, 0] = 0.5
    wide = make_layer(loss("bg_multiple: 1000 field_xyr: 2"), *SHAPES)
    (free,) = run(wide, scores, deltas, truth)
    (want,) = run(wide, scores, limited, truth)
    both = make_layer(loss("bg_multiple: 1000 field_xyr: 2 field_whr: 8"), *SHAPES)
    (have,) = run(both, scores, deltas, truth)
    assert free.ravel()[1] > want.ravel()[1]
    np.testing.assert_allclose(have, want)


def test_gradient(make_layer: LayerMaker, check_gradient: GradientCheck) -> None:
    """Of the first value; the second hands none on, so it is left out of the comparison."""
    scores, deltas, truth = blobs()
    layer = make_layer(loss("bg_threshold: 0.5 bg_multiple: 1000"), *SHAPES).double()

    def first(scores: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
        top = layer(scores, deltas, torch.from_numpy(truth))
        assert isinstance(top, torch.Tensor)
        return top.flatten()[0]

    given = [torch.from_numpy(values).requires_grad_() for values in (scores, deltas)]
    assert torch.autograd.gradcheck(first, given)


def accuracy() -> str:
    fields = f"cls_num: {C} {FIELDS} bg_threshold: 0.5 field_whr: 8 field_xyr: 2"
    return (
        'type: "DetectionGroupAccuracy" top: "a" top: "b"'
        f" detection_group_accuracy_param {{ {fields} }}"
    )


def test_accuracy(make_layer: LayerMaker, run: Runner) -> None:
    scores, deltas, truth = blobs()
    for k, i, j, label, _ in CELLS:  # boxes that fit exactly, but for the last
        size = np.array(SIZES[k % G])
        moved = (truth[k, 1:3, i, j] - 8 * (np.array([j, i]) + 0.5)) / size
        deltas[k, :, i, j] = [*moved, *np.log(truth[k, 3:5, i, j] / size)]
        scores[k, :, i, j] = np.eye(C)[label if k < 2 else 0]
    scores[:, 0] += 9 * (truth[:, 0] == 0)
    deltas[2, 2, 0, 2] -= log(2)
    classes, boxes = run(make_layer(accuracy(), *SHAPES), scores, deltas, truth)
    counted = len(background_of(truth)) + 3
    np.testing.assert_allclose(classes.ravel(), [(counted - 1) / counted, 2 / 3])
    np.testing.assert_allclose(boxes.ravel(), (1 + 1 + 0.5) / 3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ('neg_mining_type: "x"', "neg_mining_type must be one of random, bootstrap, mixture"),
        ('neg_ranking_type: "x"', "neg_ranking_type must be one of"),
        ('bbox_loss_type: "x"', "bbox_loss_type must be one of"),
        ("field_w: 3", "must be given equally often, got 2 and 3"),
        ("objectness: true", "objectness needs cls_num: 2"),
        ("field_w: 3 field_h: 3", "a multiple of 3 maps, got 4"),
        ("batch_size: 0", "batch_size must be > 0, or -1 for all"),
    ],
)
def test_faults(make_layer: LayerMaker, fields: str, words: str) -> None:
    with pytest.raises(NetError, match=words):
        make_layer(loss(fields), *SHAPES)
    with pytest.raises(NetError, match="need deltas 4 4 3 4"):
        make_layer(loss(), SCORES, (N * G, 5, H, W), TRUTH)
