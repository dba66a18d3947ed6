from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

T, N, C = 7, 3, 4
DRAW = np.random.default_rng(3)


def inputs() -> dict[str, np.ndarray]:
    scores = DRAW.random((T, N, C))
    scores[:, 0, C - 1] += 0.6  # blanks
    scores[2:4, 1, 1] = 2  # a label twice
    cont = np.ones((T, N))
    cont[0] = 0
    cont[4:, 2] = 0
    truth = DRAW.integers(0, C - 1, (T, N)).astype(float)
    truth[2:] = -1
    truth[0, 0] = -1
    return {"x0": scores, "x1": cont, "x2": truth}


@pytest.mark.parametrize("merge", ["", "ctc_merge_repeated: false"])
@pytest.mark.parametrize(
    ("given", "tops"), [(2, 1), (2, 2), (3, 1), (3, 2), (3, 3)], ids=lambda k: str(k)
)
def test_text_of_probabilities(export: Export, merge: str, given: int, tops: int) -> None:
    shapes = [f"{T} {N} {C}", f"{T} {N}", f"{T} {N}"][:given]
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    layer = f'type: "CTCGreedyDecoder" ctc_decoder_param {{ {merge} }}'
    values = dict(list(inputs().items())[:given])
    done = export(one_layer(layer, *shapes, tops=names), check_inputs=values)
    assert done.free_batch  # any number of timesteps


def test_right_texts_are_counted(export: Export) -> None:
    scores = np.zeros((2, 2, 3))
    scores[[0, 1], 0, [1, 0]] = 1
    scores[[0, 1], 1, [2, 1]] = 1
    truth = np.array([[1, 0], [0, -1]])
    layer = 'type: "CTCGreedyDecoder"'
    text = one_layer(layer, "2 2 3", "2 2", "2 2", tops='top: "t" top: "right"')
    export(text, check_inputs={"x0": scores, "x1": np.ones((2, 2)), "x2": truth})
