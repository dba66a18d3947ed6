from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.detection.anchors import Choice, base_anchors, grid_anchors, propose

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer

MAPS = (1, 18, 6, 8), (1, 36, 6, 8), (1, 3)
BOXES = torch.tensor([[10.0, 8, 60, 70, 1], [50, 20, 110, 80, 3]])
INFO = torch.tensor([[96.0, 128, 1]])


def python(module: str, layer: str, text: str, tops: int) -> str:
    names = " ".join(f'top: "t{k}"' for k in range(tops))
    return (
        f'type: "Python" {names} python_param {{ module: "{module}" layer: "{layer}"'
        f' param_str: "{text}" }}'
    )


def proposal(text: str = "'feat_stride': 16") -> str:
    return python("rpn.proposal_layer", "ProposalLayer", text, 2)


def run(layer: Layer, *bottoms: torch.Tensor) -> list[torch.Tensor]:
    tops = layer(*bottoms)
    assert not isinstance(tops, torch.Tensor)
    return list(tops)


@pytest.mark.parametrize("training", [True, False])
def test_proposals(make_layer: LayerMaker, training: bool) -> None:
    torch.manual_seed(0)
    layer = make_layer(proposal(), *MAPS, training=training)
    scores, deltas = torch.rand(MAPS[0]), 0.2 * torch.randn(MAPS[1])
    rois, best = run(layer, scores, deltas, INFO)
    choice = Choice(16, 12000, 2000) if training else Choice(16, 6000, 300)
    anchors = grid_anchors(base_anchors().float(), 6, 8, 16)
    boxes, found = propose(scores[0, 9:], deltas[0], anchors, INFO[0].tolist(), choice)
    assert torch.equal(rois, torch.cat([torch.zeros(len(boxes), 1), boxes], 1))
    assert torch.equal(best, found[:, None])


def test_settings_and_scales_in_param_str(make_layer: LayerMaker) -> None:
    text = "{'feat_stride': 16, 'scales': [2], 'ratios': [1], 'RPN_POST_NMS_TOP_N': 3}"
    layer = make_layer(proposal(text), (1, 2, 6, 8), (1, 4, 6, 8), (1, 3))
    rois, _ = run(layer, torch.rand(1, 2, 6, 8), torch.zeros(1, 4, 6, 8), INFO)
    assert len(rois) == 3


def anchor_target(text: str = "'feat_stride': 16") -> str:
    return python("rpn.anchor_target_layer", "AnchorTargetLayer", text, 4)


TARGET_SHAPES = (1, 18, 6, 8), (2, 5), (1, 3), (1, 3, 96, 128)


def test_anchors_to_learn(make_layer: LayerMaker) -> None:
    text = "'feat_stride': 16 \\n'scales': [2, 4] \\n'allowed_border': 4"
    shapes = (1, 12, 6, 8), *TARGET_SHAPES[1:]
    layer = make_layer(anchor_target(text), *shapes)
    bottoms = torch.zeros(shapes[0]), BOXES, INFO, torch.zeros(shapes[3])
    labels, targets, inside, outside = run(layer, *bottoms)
    assert labels.shape == (1, 1, 36, 8)
    assert targets.shape == inside.shape == outside.shape == (1, 24, 6, 8)
    anchors = grid_anchors(base_anchors(16, scales=[2, 4]).float(), 6, 8, 16).view(-1, 4)
    flat = labels.view(6, 6, 8).permute(1, 2, 0).flatten()
    each = (v[0].view(6, 4, 6, 8).permute(2, 3, 0, 1).reshape(-1, 4) for v in
            (targets, inside, outside))  # fmt: skip
    target, within, without = each
    fits = (anchors[:, :2] >= -4).all(1) & (anchors[:, 2] < 132) & (anchors[:, 3] < 100)
    shared = torch.stack([slow_overlaps(anchors, box) for box in BOXES], 1)
    best = shared[fits].amax(0)
    want = torch.full((len(anchors),), -1.0)
    for k in fits.nonzero()[:, 0].tolist():
        if shared[k].max() < 0.3:
            want[k] = 0
        if (shared[k] == best).any() or shared[k].max() >= 0.7:
            want[k] = 1
    assert (want == 1).sum() >= 2
    assert torch.equal(flat, want)  # fewer than 256: all of them
    assert torch.equal(within, (flat == 1).float()[:, None].expand(-1, 4))
    torch.testing.assert_close(without[:, 0], (flat >= 0).float() / (flat >= 0).sum())
    place = int((flat == 1).nonzero()[0])
    a, b = anchors[place], BOXES[int(shared[place].argmax())]
    size, wanted = a[2:] - a[:2] + 1, b[2:4] - b[:2] + 1
    moved = (b[:2] + wanted / 2 - a[:2] - size / 2) / size
    torch.testing.assert_close(target[place], torch.cat([moved, (wanted / size).log()]))


def slow_overlaps(anchors: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    low, high = anchors[:, :2].maximum(box[:2]), anchors[:, 2:].minimum(box[2:4])
    shared = (high - low + 1).clamp(min=0).prod(1)
    size = (box[2:4] - box[:2] + 1).prod() + (anchors[:, 2:] - anchors[:, :2] + 1).prod(1)
    return shared / (size - shared)


def test_so_many_anchors_are_drawn(make_layer: LayerMaker) -> None:
    text = "{'feat_stride': 16, 'scales': [1], 'RPN_BATCHSIZE': 16, 'RPN_POSITIVE_OVERLAP': 0.05}"
    shapes = (1, 6, 6, 8), *TARGET_SHAPES[1:]
    layer = make_layer(anchor_target(text), *shapes)
    labels, *_ = run(layer, torch.zeros(shapes[0]), BOXES, INFO, torch.zeros(shapes[3]))
    assert (labels == 1).sum() == 8
    assert (labels == 0).sum() == 8


def test_an_image_without_boxes_is_background(make_layer: LayerMaker) -> None:
    text = "{'feat_stride': 16, 'scales': [1]}"
    shapes = (1, 6, 6, 8), (0, 5), (1, 3), (1, 3, 96, 128)
    layer = make_layer(anchor_target(text), *shapes)
    bottoms = torch.zeros(shapes[0]), BOXES[:0], INFO, torch.zeros(shapes[3])
    labels, _, inside, _ = run(layer, *bottoms)
    assert not (labels == 1).any()
    square = labels.view(3, 6, 8)[1]  # of 16 pixels: they fill the image to its edges
    assert (square == 0).all()
    assert not inside.any()


def proposal_target(text: str = "'num_classes': 4") -> str:
    return python("rpn.proposal_target_layer", "ProposalTargetLayer", text, 5)


ROIS = torch.tensor(
    [[0.0, 12, 8, 62, 70], [0, 100, 0, 120, 20], [0, 30, 10, 80, 90], [0, 0, 60, 90, 90]]
)


@pytest.mark.parametrize("size", [128, -1])  # so many; all, as in py-R-FCN
def test_regions_to_learn(make_layer: LayerMaker, size: int) -> None:
    text = f"{{'num_classes': 4, 'BATCH_SIZE': {size}}}"
    layer = make_layer(proposal_target(text), (4, 5), (2, 5))
    rois, labels, targets, inside, outside = run(layer, ROIS, BOXES)
    shared = torch.stack([slow_overlaps(ROIS[:, 1:], box) for box in BOXES], 1).amax(1)
    positive = int((shared >= 0.5).sum()) + 2  # and the true boxes
    background = int(((shared < 0.5) & (shared >= 0.1)).sum())
    assert len(rois) == positive + background
    assert sorted(labels.tolist()) == [0] * background + [1] * (positive - 1) + [3]
    for row, label in enumerate(labels.long().tolist()):
        mask = torch.zeros(4, 4)
        mask[label] = float(label > 0)
        assert torch.equal(inside[row].view(4, 4), mask)
        assert not targets[row].view(4, 4)[mask == 0].any()
    assert torch.equal(outside, inside)


def test_share_of_regions_and_normalized_targets(make_layer: LayerMaker) -> None:
    text = (
        "{'num_classes': 2, 'BATCH_SIZE': 4, 'FG_FRACTION': 0.5, 'BG_THRESH_LO': 0,"
        " 'BBOX_NORMALIZE_TARGETS_PRECOMPUTED': True}"
    )
    torch.manual_seed(1)
    rois, labels, targets, *_ = run(make_layer(proposal_target(text), (4, 5), (2, 5)), ROIS, BOXES)
    assert (labels > 0).tolist() == [True, True, False, False]
    assert targets.shape == (4, 8)
    a = rois[0, 1:]
    b = BOXES[int(labels[0] > 1)]
    size, wanted = a[2:] - a[:2] + 1, b[2:4] - b[:2] + 1
    moved = (b[:2] + wanted / 2 - a[:2] - size / 2) / size / 0.1
    torch.testing.assert_close(targets[0, 4:6], moved)


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="param_str has no 'feat_stride'"):
        make_layer(proposal("x: 1"), *MAPS)
    with pytest.raises(NetError, match="only single item batches"):
        make_layer(proposal(), (2, *MAPS[0][1:]), (2, *MAPS[1][1:]), MAPS[2])
    with pytest.raises(NetError, match=r"boxes are a blob G 5, got shape 2 4 "):
        make_layer(anchor_target("'feat_stride': 16"), TARGET_SHAPES[0], (2, 4), *TARGET_SHAPES[2:])
    with pytest.raises(NetError, match=r"regions are a blob R 5, got shape 5 "):
        make_layer(proposal_target(), (5,), (2, 5))
    with pytest.raises(NetError, match=r"boxes are a blob G 5, got shape 2 4 "):
        make_layer(proposal_target(), (4, 5), (2, 4))
    layer = make_layer(proposal_target("num_classes: 3"), (4, 5), (2, 5))
    with pytest.raises(DataError, match="label 3 is outside of the 3 classes"):
        run(layer, ROIS, BOXES)
    with pytest.raises(DataError, match="all regions are of image 0"):
        run(layer, ROIS + 1, BOXES)


def test_a_module_of_the_user_comes_first(
    make_layer: LayerMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rpn").mkdir()
    (tmp_path / "rpn/__init__.py").write_text("")
    (tmp_path / "rpn/proposal_layer.py").write_text(
        "from moka.layers.python import TensorLayer\n\n"
        "class ProposalLayer(TensorLayer):\n"
        "    def forward(self, *bottoms):\n"
        "        return [bottoms[2] + 1, bottoms[2]]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("rpn", "rpn.proposal_layer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    layer = make_layer(proposal(), *MAPS)
    top, _ = run(layer, torch.zeros(MAPS[0]), torch.zeros(MAPS[1]), INFO)
    np.testing.assert_array_equal(top, INFO + 1)
    for name in ("rpn", "rpn.proposal_layer"):
        sys.modules.pop(name, None)
