from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from moka.errors import DataError, NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker, Runner

ROIS = np.array([[0, 10, 10, 19, 29], [1, 0, 0, 9, 9], [0, 5, 5, 24, 14.0]])


def test_regions_are_moved(make_layer: LayerMaker, run: Runner) -> None:
    deltas = np.zeros((3, 8))
    deltas[:, :4] = 9  # those of the background are not read
    deltas[0, 4:] = [1, 0, log(2), 0]
    (top,) = run(make_layer('type: "DecodeBBox"', (3, 8), (3, 5)), deltas, ROIS)
    want = [[0, 15, 10, 34, 29], *ROIS[1:].tolist()]
    np.testing.assert_allclose(top[..., 0, 0], want)


def test_in_training_some_regions_are_left_out(make_layer: LayerMaker) -> None:
    text = 'type: "DecodeBBox" decode_bbox_param { gt_iou_thr: 0.9 }'
    layer = make_layer(text, (3, 8), (3, 5), (3, 6), training=True).double()
    deltas, truth = torch.zeros(3, 8).double(), torch.zeros(3, 6).double()
    deltas[0, 6] = -9  # less than half a pixel wide: the corners change places
    truth[1, 5] = 0.95
    (top,) = layer(deltas, torch.from_numpy(ROIS), truth)[None]
    assert top[..., 0, 0].tolist() == [ROIS[2].tolist()]
    truth[2, 5] = 1
    with pytest.raises(DataError, match="no region is left"):
        layer(deltas, torch.from_numpy(ROIS), truth)


def test_faults_of_decoding(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="in the phase TRAIN only"):
        make_layer('type: "DecodeBBox"', (3, 8), (3, 5), (3, 6))
    with pytest.raises(NetError, match="different numbers of rows: 3, 2"):
        make_layer('type: "DecodeBBox"', (3, 8), (2, 5))
    with pytest.raises(NetError, match="deltas are rows of 8 values"):
        make_layer('type: "DecodeBBox"', (3, 4), (3, 5))
    with pytest.raises(NetError, match="regions are rows of 5 values"):
        make_layer('type: "DecodeBBox"', (3, 8), (3, 4))


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize("label", [1, 2])
def test_mean_overlap_after_and_before(
    make_layer: LayerMaker, run: Runner, aware: bool, label: int
) -> None:
    """The second region is right after it moved by half its width; the others do not count."""
    truth = np.array([[0, 0, 0, 0, 0, 0], [label, 5, 0, 14, 9, 0.5], [1, 5, 5, 24, 14, 0.99]])
    deltas = np.zeros((3, 12 if aware else 8))
    deltas[1, 4 * label if aware else 4] = 0.5
    fields = "" if aware else "bbox_reg_param { cls_aware: false }"
    layer = make_layer(
        f'type: "BboxAccuracy" top: "a" top: "b" {fields}', deltas.shape, (3, 5), (3, 6)
    )
    after, before = run(layer, deltas, ROIS, truth)
    assert after.item() == 1
    np.testing.assert_allclose(before.item(), 50 / 150)


def test_each_region_has_its_deltas_and_its_true_box(make_layer: LayerMaker) -> None:
    for shapes in ([(3, 8), (2, 5), (3, 6)], [(3, 8), (3, 5), (2, 6)]):
        with pytest.raises(NetError, match="different numbers of rows: 3, "):
            make_layer('type: "BboxAccuracy" top: "a"', *shapes)
    agnostic = "bbox_reg_param { cls_aware: false }"
    for deltas, fields in (((3, 7), ""), ((3, 12), agnostic)):
        with pytest.raises(NetError, match="deltas are rows of 4 for each class, got shape 3 "):
            make_layer(f'type: "BboxAccuracy" top: "a" {fields}', deltas, (3, 5), (3, 6))


def test_no_region_counts(make_layer: LayerMaker, run: Runner) -> None:
    layer = make_layer('type: "BboxAccuracy"', (3, 8), (3, 5), (3, 6))
    (top,) = run(layer, np.zeros((3, 8)), ROIS, np.zeros((3, 6)))
    assert top.item() == -1
    truth = np.full((3, 6), 5.0)
    truth[:, 5] = 0.5
    with pytest.raises(DataError, match="label 5 has no deltas among 2"):
        run(layer, np.zeros((3, 8)), ROIS, truth)


def route(fields: str) -> str:
    return f'type: "ScaleRoute" top: "r" top: "s" scale_route_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ("", [0, 1, 2]),
        ("low_scale: 12", [0, 2]),
        ("high_scale: 12", [1]),
        ("low_scale: 10", [0, 1, 2]),  # the limit belongs to the range
        ("low_scale: 10 high_scale: 14", [1]),
        ("low_scale: 100 high_scale: 200", [0]),  # none: the nearest, the first of equals
        ("high_scale: 2", [1]),
    ],
)
def test_regions_of_a_range_of_sizes(make_layer: LayerMaker, fields: str, kept: list[int]) -> None:
    other = torch.arange(6.0).view(3, 2)
    rois, rest = make_layer(route(fields), (3, 5), (3, 2))(torch.from_numpy(ROIS), other)
    assert torch.equal(rois, torch.from_numpy(ROIS[kept]))
    assert torch.equal(rest, other[kept])


def test_faults_of_routing(make_layer: LayerMaker) -> None:
    with pytest.raises(NetError, match="high_scale 1 is less than low_scale 2"):
        make_layer(route("low_scale: 2 high_scale: 1"), (3, 5), (3, 2))
    with pytest.raises(NetError, match="different numbers of rows: 3, 2"):
        make_layer(route(""), (3, 5), (2, 2))
    with pytest.raises(NetError, match="regions are rows of 5 values"):
        make_layer(route(""), (3, 4), (3, 5))


def test_regions_with_the_highest_scores(make_layer: LayerMaker, run: Runner) -> None:
    text = 'type: "HardMining" hard_mining_param { num_roi_per_image: 2 num_image: 2 }'
    rois = np.zeros((5, 5))
    rois[:, 0] = [0, 0, 0, 0, 1]
    rois[:, 1] = range(5)
    scores = np.array([0.1, 0.9, 0.5, 0.4, 0.0])
    (kept,) = run(make_layer(text, (5,), (5, 5)), scores, rois)
    assert kept[:, 1].tolist() == [1, 2, 3, 4]  # the second image has one only: one more of others
    (kept,) = run(make_layer(text, (5,), (5, 5)), np.ones(5), rois)
    assert kept[:, 1].tolist() == [1, 2, 3, 4]  # of equal scores the last ones
    with pytest.raises(DataError, match="num_image: 2 excludes"):
        run(make_layer(text, (5,), (5, 5)), scores, rois + 1)
    text = text.replace('"HardMining"', '"HardMining" top: "r" top: "s"')
    with pytest.raises(NetError, match="different numbers of rows: 5, 5, 4"):
        make_layer(text, (5,), (5, 5), (4, 2))
    with pytest.raises(NetError, match="regions are rows of 5 values"):
        make_layer(text, (5,), (5, 4), (5, 5))
    with pytest.raises(NetError, match="scores are rows of 1 values"):
        make_layer(text, (5, 2), (5, 5), (5, 2))
    with pytest.raises(NetError, match="one top for each bottom but the first: 1, got 2"):
        make_layer(text, (5,), (5, 5))
