from __future__ import annotations

from math import exp, prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from tests.layers.detection import yolo_slow as slow

from moka.errors import NetError
from moka.layers.detection.class_tree import ClassTree, read_tree

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.types import Array

PARENTS = [-1, -1, 0, 0, 0, 1, 1, 3]
GROUPS = [[0, 1], [2, 3, 4], [5, 6], [7]]
CLASSES = len(PARENTS)
FIELDS = (
    f"num_class: {CLASSES} num: 2 biases: [1, 2, 3, 1.5] class_scale: 2 object_scale: 3"
    ' softmax_tree: "tree"'
)
SHAPE = (2, 26, 4, 5)


def path(label: int) -> list[int]:
    return [label, *(path(PARENTS[label]) if PARENTS[label] >= 0 else [])]


def slow_probabilities(scores: Array) -> list[float]:
    found = [0.0] * CLASSES
    for group in GROUPS:
        total = sum(exp(scores[c]) for c in group)
        for c in group:
            found[c] = exp(scores[c]) / total
    return found


def slow_deltas(scores: Array, label: int, out: Array) -> None:
    p = slow_probabilities(scores)
    for on in path(label):
        (group,) = (g for g in GROUPS if on in g)
        for c in group:
            out[c] = p[c] - (c == on)


def test_probabilities() -> None:
    tree = ClassTree(PARENTS)
    scores = np.random.default_rng(0).normal(0, 3, (2, 3, CLASSES))
    have = tree.probabilities(torch.tensor(scores))
    want = [[slow_probabilities(row) for row in rows] for rows in scores]
    np.testing.assert_allclose(have.numpy(), want)
    for label in range(CLASSES):
        whole = [[prod(row[c] for c in path(label)) for row in rows] for rows in want]
        np.testing.assert_allclose(tree.of_class(have, label).numpy(), whole)


def test_large_scores() -> None:
    scores = torch.tensor([1e4, 1e4, -1e4, 0, 0, 1e4, 9e3, -1e4])
    assert ClassTree(PARENTS).probabilities(scores).tolist() == [0.5, 0.5, 0, 0.5, 0.5, 1, 0, 1]


def test_deltas() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(2, 2, 3, 3, CLASSES))
    labels = [7, 2, 5, 1, 7]
    places = [(0, 1, 2, 0), (1, 0, 0, 0), (0, 1, 2, 0), (1, 0, 0, 0), (1, 1, 1, 1)]
    want = np.zeros_like(scores)
    for label, at in zip(labels, places, strict=True):
        slow_deltas(scores[at], label, want[at])
    have = ClassTree(PARENTS).deltas(
        torch.tensor(scores), torch.tensor(labels), tuple(torch.tensor(places).T)
    )
    np.testing.assert_allclose(have.numpy(), want, atol=1e-12)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tree").write_text("".join(f"n{c} {parent}\n" for c, parent in enumerate(PARENTS)))


@pytest.mark.usefixtures("tree")
def test_region_loss(make_layer: LayerMaker) -> None:
    """Boxes and objectness are as without a tree; the classes are those of the tree."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=SHAPE)
    labels = np.array([[[7, 0.3, 0.6, 0.2, 0.5], [5, 0.31, 0.6, 0.2, 0.5], [2, 0.7, 0.2, 0.6, 0.2]],
                       [[4, 0.1, 0.1, 0.2, 0.5], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]])  # fmt: skip
    gradients = []
    for fields in (FIELDS, FIELDS.replace('softmax_tree: "tree"', "")):
        layer = make_layer(f'type: "RegionLoss" region_loss_param {{ {fields} }}', SHAPE, (2, 15))
        bottom = torch.tensor(x, requires_grad=True)
        loss = layer.double()(bottom, torch.tensor(labels.reshape(2, 15)))
        loss.backward()
        assert bottom.grad is not None
        gradient = bottom.grad.numpy().reshape(2, 2, 5 + CLASSES, 4, 5) * 2
        assert float(loss.detach()) == pytest.approx((gradient**2).sum() / 2)
        gradients.append(gradient)
    have, plain = gradients
    np.testing.assert_allclose(have[:, :, :5], plain[:, :, :5])
    want = np.zeros_like(have[:, :, 5:])
    for image, label, anchor, row, column in [
        (0, 7, 0, 2, 1),
        (0, 5, 0, 2, 1),
        (0, 2, 1, 0, 3),
        (1, 4, 0, 0, 0),
    ]:
        out = np.zeros(CLASSES)
        slow_deltas(x.reshape(2, 2, 13, 4, 5)[image, anchor, 5:, row, column], label, out)
        at = want[image, anchor, :, row, column]
        at[out != 0] = 2 * out[out != 0]
    np.testing.assert_allclose(have[:, :, 5:], want, atol=1e-12)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("sure", [-4.0, 4.0])
def test_images_with_a_class_only(make_layer: LayerMaker, sure: float) -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=SHAPE)
    parts = x.reshape(2, 2, 13, 4, 5)
    parts[:, :, 4] += sure
    labels = np.zeros((2, 3, 5))
    labels[0, 0] = [2, 0.7, 0.2, 0.6, 0.2]
    labels[0, 1] = [7, 999999, 999999, 999999, 999999]
    labels[0, 2] = [1, 999999, 999999, 999999, 999999]
    labels[1, 0] = [4, 0.1, 0.1, 0.2, 0.5]
    layer = make_layer(
        f'type: "RegionLoss" region_loss_param {{ {FIELDS} thresh: 1 }}', SHAPE, (2, 15)
    )
    layer.load_run_state([torch.tensor([6400])])
    bottom = torch.tensor(x, requires_grad=True)
    layer.double()(bottom, torch.tensor(labels.reshape(2, 15))).backward()
    assert bottom.grad is not None
    have = 2 * bottom.grad.numpy().reshape(2, 2, 13, 4, 5)[0]
    want = np.zeros_like(have)
    best, score = (0, 0, 0), 0.0
    for a, row, column in np.ndindex(2, 4, 5):
        v = parts[0, a, :, row, column]
        o = slow.sigmoid(v[4])
        want[a, 4, row, column] = 0.5 * o * o * (1 - o)
        p = slow_probabilities(v[5:])
        if o * prod(p[c] for c in path(7)) > score:
            best, score = (a, row, column), o * prod(p[c] for c in path(7))
    a, row, column = best
    o = slow.sigmoid(parts[0, a, 4, row, column])
    want[a, 4, row, column] = 3 * (o - 0.3) * o * (1 - o) if o < 0.3 else 0
    slow_deltas(parts[0, a, 5:, row, column], 7, want[a, 5:, row, column])
    want[a, 5:, row, column] *= 2
    np.testing.assert_allclose(have, want, atol=1e-12)
    assert bool(want[a, 4, row, column]) == (sure < 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a -1\nb 1\n", 'a name and the class above it, -1 to 0 here, got "b 1"'),
        ("a -1\nb\n", 'got "b"'),
        ("a -1\nb x\n", 'got "b x"'),
        ("a -1\nb 0\nc 0\n", "a tree of 3 classes, num_class is 2"),
    ],
)
def test_bad_trees(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tree").write_text(text)
    with pytest.raises(NetError, match=message):
        read_tree(str(tmp_path / "tree"), 2)


def test_a_tree_may_have_empty_lines(tmp_path: Path) -> None:
    (tmp_path / "tree").write_text("a -1\n\nb 0\n")
    tree = read_tree(str(tmp_path / "tree"), 2)
    assert tree.group.tolist() == [0, 1]
    assert tree.paths.tolist() == [[0, -1], [1, 0]]
