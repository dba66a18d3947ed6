from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from moka.errors import NetError
from moka.layers.sequence.labels import edit_distance
from moka.types import Array

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

STEPS, SEQUENCES, CLASSES = 7, 4, 3


def problem(seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(STEPS, SEQUENCES, CLASSES))
    cont = np.ones((STEPS, SEQUENCES))
    cont[0, 0] = cont[3, 1] = cont[5, 1] = cont[1, 2] = 0
    return x, cont


def slow_decode(
    x: Array, cont: Array, *, merge: bool, blank: int = CLASSES - 1
) -> tuple[list[list[int]], list[float]]:
    found, scores = [], []
    for n in range(x.shape[1]):
        labels: list[int] = []
        last, score = -1, 0.0
        for t in range(len(x)):
            if t and not cont[t, n]:
                break
            best = int(np.argmax(x[t, n]))
            score -= x[t, n, best]
            if best != blank and not (merge and best == last):
                labels.append(best)
            last = best
        found.append(labels)
        scores.append(score)
    return found, scores


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("blank", [0, 1, -1])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_greedy_decoder(
    make_layer: LayerMaker, run: Runner, seed: int, blank: int, *, merge: bool
) -> None:
    x, cont = problem(seed)
    fields = f"ctc_merge_repeated: {str(merge).lower()} blank_index: {blank}"
    text = f'type: "CTCGreedyDecoder" ctc_decoder_param {{ {fields} }}'
    layer = make_layer(f'{text} top: "labels" top: "score"', x.shape, cont.shape)
    labels, score = run(layer, x, cont)
    want, scores = slow_decode(x, cont, merge=merge, blank=blank % CLASSES)
    assert labels.shape == (SEQUENCES, STEPS, 1, 1)
    rows = labels.reshape(SEQUENCES, STEPS)
    assert [[v for v in row if v >= 0] for row in rows] == want
    assert all((np.diff((row >= 0).astype(int)) <= 0).all() for row in rows)
    np.testing.assert_allclose(score.reshape(-1), scores)


def test_the_decoder_without_indicators(make_layer: LayerMaker, run: Runner) -> None:
    x, _ = problem()
    (labels,) = run(make_layer('type: "CTCGreedyDecoder"', x.shape), x)
    turned = np.concatenate([x[..., 1:], x[..., :1]], -1)  # the blank comes last
    want, _ = slow_decode(turned, np.ones((STEPS, SEQUENCES)), merge=True)
    rows = labels.reshape(SEQUENCES, STEPS)
    assert [[v for v in row if v >= 0] for row in rows] == [[k + 1 for k in row] for row in want]
    text = 'type: "CTCGreedyDecoder" ctc_decoder_param { blank_index: -1 }'
    (labels,) = run(make_layer(text, x.shape), x)
    want, _ = slow_decode(x, np.ones((STEPS, SEQUENCES)), merge=True)
    rows = labels.reshape(SEQUENCES, STEPS)
    assert [[v for v in row if v >= 0] for row in rows] == want


def test_the_decoder_judges_itself_against_true_labels(make_layer: LayerMaker, run: Runner) -> None:
    """caffe_ocr's form."""
    classes = np.array([[1, 1, 0, 1, 2], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0]])
    x = np.eye(3)[classes.T]
    truth = np.array([[1, 0, 1, 2], [1, 2, -1, 2], [0, 0, 0, -1]], float)
    layer = make_layer('type: "CTCGreedyDecoder"', x.shape, truth.shape)
    (top,) = run(layer, x, truth)
    assert top.shape == layer.top_shapes(x.shape, truth.shape)[0] == (1, 2, 1, 1)
    np.testing.assert_allclose(top.reshape(2), [1 - (0 + 1 / 2) / 3, 1 / 3])


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [
        ([], [], 0),
        ([1, 2], [], 2),
        ([1, 2, 3], [1, 3], 1),
        ([1, 2, 3], [2, 3, 1], 2),
        ([1, 2], [3, 4], 2),
        ([5, 1, 2, 3], [1, 2, 4, 3], 2),
    ],
)
def test_edit_distance(a: list[int], b: list[int], edits: int) -> None:
    assert edit_distance(a, b) == edit_distance(b, a) == edits


def test_accuracy_of_the_decoder(make_layer: LayerMaker, run: Runner) -> None:
    x, cont = problem()
    want, scores = slow_decode(x, cont, merge=True)
    truth = np.full((STEPS, SEQUENCES), -1.0)
    for n, labels in enumerate(want):
        truth[: len(labels), n] = labels
    truth[0, 1] = 1 - truth[0, 1]
    text = 'type: "CTCGreedyDecoder" top: "labels" '
    shapes = (x.shape, cont.shape, truth.shape)
    _, accuracy = run(make_layer(f'{text} top: "a"', *shapes), x, cont, truth)
    assert accuracy.tolist() == [[[[0.75]]]]
    tops = run(make_layer(f'{text} top: "s" top: "a"', *shapes), x[..., None], cont, truth)
    np.testing.assert_allclose(tops[1].reshape(-1), scores)
    assert tops[2].tolist() == [[[[0.75]]]]


@pytest.mark.parametrize("blank", [0, 2])
def test_accuracy_of_sequences(make_layer: LayerMaker, run: Runner, blank: int) -> None:
    other = 2 - blank
    best = [[1, 1, blank, 1], [other, other, 1, blank], [blank, blank, blank, blank], [1, 1, 1, 1]]
    labels = [[1, blank, 1], [other, 1, blank], [blank, blank, blank], [1, 1, blank]]
    x = np.eye(3)[best] * 2 + np.random.default_rng(0).uniform(size=(4, 4, 3))
    layer = make_layer(
        f'type: "LabelsequenceAccuracy" labelsequence_accuracy_param {{ blank_label: {blank} }}',
        x.shape,
        (4, 3),
    )
    assert run(layer, x, np.array(labels))[0] == 0.75


@pytest.mark.parametrize(
    ("text", "shapes", "message"),
    [
        ("CTCGreedyDecoder", [(3, 2), (3, 2)], "takes probabilities"),
        ("CTCGreedyDecoder", [(3, 2, 4), (3, 3)], "indicators must have a value for each"),
        ("CTCGreedyDecoder", [(3, 2, 4), (3, 2), (3, 3)], "labels must have a value for each"),
        ("LabelsequenceAccuracy", [(3, 2, 4), (2, 2)], "batch size should be equal: 3 sequences"),
    ],
)
def test_bad_shapes(make_layer: LayerMaker, text: str, shapes: list[Any], message: str) -> None:
    with pytest.raises(NetError, match=message):
        make_layer(f'type: "{text}"', *shapes)


def test_tops_of_the_decoder(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="makes at most 2 tops, got 3"):
        make_layer('type: "CTCGreedyDecoder" top: "a" top: "b" top: "c"', (3, 2, 4), (3, 2))
    text = 'type: "CTCGreedyDecoder" ctc_decoder_param { blank_index: 4 }'
    with pytest.raises(NetError, match="blank_index 4 is no class: there are 4"):
        make_layer(text, (3, 2, 4), (3, 2))
