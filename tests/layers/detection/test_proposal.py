from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import NetError
from moka.layers.detection.anchors import Choice, base_anchors, grid_anchors, propose
from moka.layers.detection.proposal import Proposal

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

SHAPES = (2, 8, 3, 4), (2, 16, 3, 4), (1, 3)
FIELDS = "base_size: 16 ratio: 1 ratio: 2 scale: 1 scale: 2 min_size: 4 post_nms_topn: 5"
INFO = np.array([[40, 60, 1.0]])


def proposal(fields: str = "", tops: int = 2) -> str:
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    return f'type: "Proposal" {names} proposal_param {{ {FIELDS} {fields} }}'


def values() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.uniform(size=SHAPES[0]), rng.normal(0, 0.2, SHAPES[1])


def wanted(choice: Choice, deltas: np.ndarray) -> np.ndarray:
    anchors = grid_anchors(base_anchors(16, [1, 2], [1, 2]), 3, 4, 16)
    scores = values()[0]
    rows = []
    for image in range(2):
        mine = torch.from_numpy(scores[image, 4:]), torch.from_numpy(deltas[image])
        boxes, best = propose(*mine, anchors, INFO[0].tolist(), choice)
        rows += [[image, *box, float(s)] for box, s in zip(boxes.tolist(), best, strict=True)]
    return np.array(rows)


def test_regions_of_all_images_follow_each_other(make_layer: LayerMaker) -> None:
    layer = make_layer(proposal(), *SHAPES).double()
    scores, deltas = values()
    rois, best = layer(*map(torch.from_numpy, (scores, deltas, INFO)))
    want = wanted(Choice(4, 6000, 5, 0.7, keep_small=True), deltas)
    assert len(want) == 10
    np.testing.assert_allclose(rois, want[:, :5], rtol=1e-9)
    np.testing.assert_allclose(best, want[:, 5])


def test_small_boxes_come_last_with_score_0(make_layer: LayerMaker) -> None:
    """As in Faster R-CNN's C++; its Python drops them."""
    text = proposal().replace("min_size: 4", "min_size: 30").replace("n: 5", "n: 48")
    layer = make_layer(text, *SHAPES).double()
    scores, deltas = values()
    rois, best = layer(*map(torch.from_numpy, (scores, deltas, INFO)))
    for image in range(2):
        mine, score = rois[rois[:, 0] == image, 1:], best[rois[:, 0] == image]
        small = (mine[:, 2:] - mine[:, :2] + 1 < 30).any(1)
        assert 0 < small.sum() < len(small)
        assert small.int().diff().min() >= 0
        assert torch.equal(score == 0, small)


def test_sides_of_anchors_are_rounded_up_at_a_half(make_layer: LayerMaker) -> None:
    text = proposal().replace("base_size: 16 ratio: 1 ratio: 2", "base_size: 5 ratio: 1 ratio: 4")
    layer = make_layer(text, *SHAPES)
    assert isinstance(layer, Proposal)
    base = layer.base
    assert (base[2, 2:] - base[2, :2] + 1).tolist() == [3, 12]


def test_options_of_openvino(make_layer: LayerMaker) -> None:
    fields = (
        "clip_before_nms: false clip_after_nms: true normalize: true"
        " box_coordinate_scale: 2 box_size_scale: 4"
    )
    layer = make_layer(proposal(fields, tops=1), *SHAPES).double()
    scores, deltas = values()
    (rois,) = layer(*map(torch.from_numpy, (scores, deltas, INFO)))
    scale = np.tile([2, 2, 4, 4.0], 4)[:, None, None]
    choice = Choice(4, 6000, 5, 0.7, clip_before=False, clip_after=True, keep_small=True)
    want = wanted(choice, deltas / scale)[:, :5] / [1, 60, 40, 60, 40]
    np.testing.assert_allclose(rois, want, rtol=1e-9, atol=1e-12)


def test_each_image_may_have_its_own_size(make_layer: LayerMaker) -> None:
    scores, deltas = values()
    layer = make_layer(proposal(tops=1), SHAPES[0], SHAPES[1], (2, 3)).double()
    info = np.array([[40, 60, 1], [20, 30, 1.0]])
    (rois,) = layer(*map(torch.from_numpy, (scores, deltas, info)))
    assert rois[rois[:, 0] == 0, 1:].max() > 30
    assert rois[rois[:, 0] == 1, 1:].max() <= 29


def test_a_batch_of_none(make_layer: LayerMaker, run: Runner) -> None:
    shapes = (0, 8, 3, 4), (0, 16, 3, 4), (1, 3)
    rois, best = run(make_layer(proposal(), *shapes), *map(np.zeros, shapes))
    assert rois.shape == (0, 5)
    assert best.shape == (0,)


@pytest.mark.parametrize(
    ("fields", "shapes", "words"),
    [
        ("", ((2, 9, 3, 4), SHAPES[1], SHAPES[2]), "4 anchors need scores N 8 H W"),
        ("", (SHAPES[0], (2, 16, 3, 5), SHAPES[2]), "4 anchors need moves 2 16 3 4"),
        ("", (SHAPES[0], SHAPES[1], (1, 2)), "height, width and scale"),
        ('framework: "tensorflow"', SHAPES, "only Caffe's anchors are known"),
        ("for_deformable: true", SHAPES, "only Caffe's anchors are known"),
    ],
)
def test_faults(
    make_layer: LayerMaker, fields: str, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    with pytest.raises(NetError, match=words):
        make_layer(proposal(fields), *shapes)
