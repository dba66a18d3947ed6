from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError
from moka.layers.detection.boxes import overlap

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.types import Array

TRUTH = np.array(
    [
        [0, 10, 10, 39, 39, 2, 0, 0],
        [0, 50, 10, 79, 39, 1, 0, 0],
        [1, 20, 20, 59, 59, 1, 1, 0],  # to be ignored
        [-1, 0, 0, 0, 0, 0, 0, 0.0],
    ]
)
ROIS = np.array(
    [
        [0, 12, 10, 41, 39],
        [0, 52, 12, 79, 39],
        [0, 0, 0, 20, 20],
        [0, 70, 70, 90, 90],
        [1, 20, 20, 59, 57],
        [1, 30, 30, 90, 90],
        [1, 10, 10, 39, 39.0],
    ]
)
DEFAULT = "cls_num: 3 num_img_per_batch: 2 img_width: 96 img_height: 96 bg_thr_lw: 0"


def target(fields: str = "batch_size: -1", more: str = "") -> str:
    tops = " ".join(f'top: "t{k}"' for k in range(7))
    return f'type: "ProposalTarget" {tops} proposal_target_param {{ {DEFAULT} {fields} }} {more}'


def rows(make_layer: LayerMaker, text: str, truth: Array = TRUTH) -> list[Array]:
    layer = make_layer(text, ROIS.shape, truth.shape).double()
    tops = layer(torch.from_numpy(ROIS), torch.from_numpy(truth))
    return [top[..., 0, 0].numpy() for top in tops]


def test_all_regions(make_layer: LayerMaker) -> None:
    """Regions 0 and 1 and the two true boxes are positive; region 4 and the ignored box do not
    count; the others are background."""
    rois, labels, targets, inside, outside, matched, weights = rows(make_layer, target())
    assert len(rois) == 4 + 4
    assert sorted(labels[:4, 0].tolist()) == [1, 1, 2, 2]
    assert not labels[4:].any()
    assert not (rois == ROIS[4]).all(1).any()
    assert not targets[4:].any()
    assert not matched[4:].any()
    np.testing.assert_array_equal(inside, outside)
    for k in range(4):
        label = int(labels[k, 0])
        box = TRUTH[TRUTH[:, 5] == label][0]
        a, b = rois[k, 1:], box[1:5]
        size, wanted = a[2:] - a[:2] + 1, b[2:] - b[:2] + 1
        moved = (b[:2] + wanted / 2 - a[:2] - size / 2) / size
        want = np.zeros((3, 4))
        want[label] = [*moved, *np.log(wanted / size)]
        np.testing.assert_allclose(targets[k], want.ravel(), atol=1e-12)
        assert inside[k].reshape(3, 4)[label].all()
        assert inside[k].sum() == 4
        shared = overlap(torch.from_numpy(a[None]), torch.from_numpy(b[None]), 1).item()
        np.testing.assert_allclose(matched[k], [label, *b, shared])
    np.testing.assert_allclose(weights[:4].sum() / weights.sum(), 0.25)


def test_stored_deltas_of_one_set(make_layer: LayerMaker) -> None:
    scale = "bbox_mean: 0.5 bbox_std: 0.1 " * 4
    more = f"bbox_reg_param {{ cls_aware: false {scale} }}"
    _, labels, targets, inside, *_ = rows(make_layer, target(more=more))
    assert targets.shape[1] == 8
    assert not inside[:, :4].any()
    assert inside[labels[:, 0] > 0, 4:].all()
    exact = np.isclose(targets[:4, 4:], -5).all(1)  # the true boxes themselves: (0 - 0.5) / 0.1
    assert exact.sum() == 2


def test_regions_alone(make_layer: LayerMaker) -> None:
    rois, labels, *_ = rows(make_layer, target("batch_size: -1 append_gtbox: false"))
    assert (labels > 0).sum() == 2
    assert all((roi == ROIS).all(1).any() for roi in rois)


def test_range_of_overlaps_that_learn_boxes(make_layer: LayerMaker) -> None:
    (
        _,
        labels,
        _,
        inside,
        *_,
    ) = rows(make_layer, target("batch_size: -1 bbox_thr_hg: 0.95"))
    assert (labels > 0).sum() == 4
    assert (inside.sum(1) > 0).sum() == 2


def test_shares_of_a_batch(make_layer: LayerMaker) -> None:
    torch.manual_seed(0)
    tops = rows(make_layer, target("batch_size: 4 fg_fraction: 0.25"))
    assert len(tops[0]) == 4
    assert (tops[1] > 0).sum() == 1
    np.testing.assert_allclose(tops[6].sum(), 4)


def test_a_half_of_a_region_counts(make_layer: LayerMaker) -> None:
    torch.manual_seed(0)
    tops = rows(make_layer, target("batch_size: 5 fg_fraction: 0.5"))
    assert (tops[1] > 0).sum() == 3


def test_a_batch_is_filled_with_random_boxes(make_layer: LayerMaker) -> None:
    """In MS-CNN's form, whose true boxes have seven values."""
    torch.manual_seed(0)
    truth = TRUTH[:, :7].copy()
    rois, labels, *_ = rows(make_layer, target("batch_size: 30"), truth)
    assert len(rois) == 30
    made = rois[8:]
    assert not labels[8:].any()
    assert (made[:, 3:] - made[:, 1:3] >= 31).all()
    for row in made:
        mine = TRUTH[TRUTH[:, 0] == row[0], 1:5]
        assert overlap(torch.from_numpy(row[None, 1:]), torch.from_numpy(mine), 1).max() < 0.5


def test_discarded_regions_may_fill_up(make_layer: LayerMaker) -> None:
    """Two positive regions are a quarter of eight; four others are neither that nor background."""
    text = target("batch_size: 8").replace("bg_thr_lw: 0", "bg_thr_lw: 0.45")
    assert len(rows(make_layer, text)[0]) == 6
    text = text.replace("batch_size: 8", "batch_size: 8 pickup_discard: false")
    assert len(rows(make_layer, text)[0]) == 2


def test_so_many_discarded_regions_as_there_is_room_for(make_layer: LayerMaker) -> None:
    """Two positive regions, one that is background, and one of the others, the first."""
    text = target("batch_size: 4 fg_fraction: 0.5 append_gtbox: false")
    rois, *_ = rows(make_layer, text.replace("bg_thr_lw: 0", "bg_thr_lw: 0.2"))
    assert rois[:2, 1].max() > 50
    assert rois[2:].tolist() == [ROIS[5].tolist(), ROIS[2].tolist()]


def test_samples_may_be_weighted_by_overlap(make_layer: LayerMaker) -> None:
    *_, matched, weights = rows(make_layer, target("batch_size: -1 iou_weighted: true"))
    ratio = weights[:4, 0] / matched[:4, 5]
    np.testing.assert_allclose(ratio, ratio[0])


def test_positive_regions_without_overlap_weigh_nothing(make_layer: LayerMaker) -> None:
    fields = "batch_size: -1 iou_weighted: true fg_thr: 0 bg_thr_hg: 0 append_gtbox: false"
    far = np.array([[0, 200, 200, 220, 220, 1, 0, 0], [1, 200, 200, 220, 220, 1, 0, 0.0]])
    _, labels, *_, weights = rows(make_layer, target(fields), far)
    assert labels.all()
    assert weights.tolist() == [[0]] * len(ROIS)


@pytest.mark.parametrize(("batch_size", "rois", "rows"), [(-1, 7, 7), (-1, 0, 1), (4, 7, 4)])
def test_shapes_before_there_is_data(
    make_layer: LayerMaker, batch_size: int, rois: int, rows: int
) -> None:
    shapes = (rois, 5), (4, 8)
    made = make_layer(target(f"batch_size: {batch_size}"), *shapes).top_shapes(*shapes)
    assert made == [(rows, width, 1, 1) for width in (5, 1, 12, 12, 12, 6, 1)]


def test_faults(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="batch_size must be > 0, or -1 for all, got 0"):
        rows(make_layer, target("batch_size: 0"))
    with pytest.raises(NetError, match="less than bg_thr_hg"):
        rows(make_layer, target("batch_size: -1 fg_thr: 0.2"))
    with pytest.raises(NetError, match="cls_num is missing"):
        rows(make_layer, target().replace("cls_num: 3 ", ""))
    with pytest.raises(DataError, match="num_img_per_batch: 1 excludes"):
        rows(make_layer, target().replace("num_img_per_batch: 2", "num_img_per_batch: 1"))
    with pytest.raises(DataError, match="label 2 is outside of the 2 classes"):
        rows(make_layer, target().replace("cls_num: 3", "cls_num: 2"))
    for size in ("img_width: 96", "img_height: 96"):
        text = target("batch_size: 30").replace(size, size.replace("96", "32"))
        with pytest.raises(NetError, match="too few regions: random ones need img_width and img_h"):
            rows(make_layer, text, TRUTH[:, :7])
    truth = TRUTH.copy()
    truth[0, 5] = 0
    with pytest.raises(DataError, match="label 0 or less"):
        rows(make_layer, target(), truth)
