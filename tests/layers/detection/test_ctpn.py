from __future__ import annotations

from math import exp
from typing import TYPE_CHECKING

import numpy as np
import pytest

from moka.errors import NetError
from moka.layers.detection.ctpn import HEIGHTS, text_anchors

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

LAYER = """type: "Python" top: "rois" top: "scores" python_param {
    module: "layers.text_proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" }"""


def test_anchors() -> None:
    anchors = text_anchors().tolist()
    assert anchors[0] == [0, 2, 15, 12]  # 11 high, with the whole numbers of Python 2
    assert anchors[1] == [0, 0, 15, 15]
    assert anchors[9] == [0, -133, 15, 148]


def test_pieces_of_text(make_layer: LayerMaker, run: Runner) -> None:
    rng = np.random.default_rng(5)
    height, width = 3, 4
    scores = rng.uniform(0, 1, (1, 20, height, width))
    deltas = rng.normal(0, 0.3, (1, 20, height, width))
    im_info = np.array([[46.0, 60.0, 1.0]])
    layer = make_layer(LAYER, scores.shape, deltas.shape, im_info.shape)
    boxes, best = run(layer, scores, deltas, im_info)
    at = 0
    for row, column, k in np.ndindex(height, width, len(HEIGHTS)):
        x1, y1, x2, y2 = (text_anchors()[k].numpy() + np.array([column, row] * 2) * 16).tolist()
        dy, dh = deltas[0, 2 * k, row, column], deltas[0, 2 * k + 1, row, column]
        size = y2 - y1 + 1
        tall = exp(dh) * size
        top = dy * size + (y1 + y2) / 2 - tall / 2
        ends = zip([x1, top, x2, top + tall], [59, 45, 59, 45], strict=True)
        wanted = [min(max(v, 0), end) for v, end in ends]
        np.testing.assert_allclose(boxes[at], wanted, atol=1e-9)
        assert best[at, 0] == scores[0, 10 + k, row, column]
        at += 1
    assert at == len(boxes) == len(best)


def test_refusals(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match=r"takes scores and deltas \(1, 20, H, W\) of one image"):
        make_layer(LAYER, (2, 20, 3, 4), (2, 20, 3, 4), (1, 3))
    with pytest.raises(NetError, match="param_str has no 'feat_stride'"):
        make_layer(LAYER.replace("feat_stride", "stride"), (1, 20, 3, 4), (1, 20, 3, 4), (1, 3))
