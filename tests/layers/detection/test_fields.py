from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import pytest
import torch

from moka.errors import NetError

if TYPE_CHECKING:
    from tests.layers.conftest import LayerMaker

    from moka.layers import Layer

MAP = (2, 7, 3, 4)
ONE = "field_w: 10 field_h: 12 downsample_rate: 8"


def box_output(fields: str = "") -> str:
    fields = fields if "min_size" in fields else f"{fields} min_size: 1"
    return f'type: "BoxOutput" top: "r" top: "s" box_output_param {{ {fields} }}'


def scores_at(shape: tuple[int, ...], *cells: tuple[int, int, int, float]) -> torch.Tensor:
    """A map whose second class beats the first by a number at some cells (image, y, x)."""
    x = torch.zeros(shape, dtype=torch.float64)
    x[:, 0] = 10
    for image, i, j, score in cells:
        x[image, 1, i, j] = 10 + score
    return x


def rows(layer: Layer, *maps: torch.Tensor) -> list[list[float]]:
    rois, with_score = layer.double()(*maps)
    assert torch.equal(rois, with_score[:, :5])
    assert rois.shape[1:] == (5, 1, 1)
    return [[round(v, 6) for v in row] for row in with_score[..., 0, 0].tolist()]


def test_boxes_of_cells(make_layer: LayerMaker) -> None:
    """The second corner that is written is the first plus the size."""
    layer = make_layer(box_output(f"{ONE} fg_thr: -1 field_whr: 2 field_xyr: 2"), MAP)
    x = scores_at(MAP, (0, 1, 2, 3), (1, 0, 0, 1), (0, 1, 0, 4))
    x[0, 3:, 1, 2] = torch.tensor([0.1, 9, log(1.5), 0])  # the center moves by 0.5 fields at most
    assert rows(layer, x) == [
        [0, 0, 6, 10, 18, 4],
        [0, 13.5, 12, 28.5, 24, 3],
        [1, 0, 0, 10, 12, 1],
    ]


def test_means_and_spreads(make_layer: LayerMaker) -> None:
    text = "bbox_reg_param {" + " ".join(
        f"bbox_mean: {m} bbox_std: {s}" for m, s in ((0.1, 0.5), (0, 1), (0, 1), (0, 1))
    )
    layer = make_layer(box_output(f"{ONE} fg_thr: 0") + text + "}", MAP)
    x = scores_at(MAP, (0, 1, 2, 3))
    x[0, 3, 1, 2] = 0.2
    assert rows(layer, x)[0] == [0, 17, 6, 27, 18, 3]


def test_limits(make_layer: LayerMaker) -> None:
    x = scores_at(MAP, (0, 1, 1, 3), (0, 1, 2, 2), (0, 1, 3, 0.5))
    found = [[0, 7, 6, 17, 18, 3], [0, 15, 6, 25, 18, 2], [0, 23, 6, 32, 18, 0.5]]
    for fields, kept in (
        ("fg_thr: 0", found),
        ("fg_thr: 1", found[:2]),
        ("fg_thr: 0 max_nms_num: 2", found[:2]),
        ("fg_thr: 0 max_post_nms_num: 1", found[:1]),
        ("fg_thr: 0 min_size: 10", found[:2]),
        ("fg_thr: 0 iou_thr: 0.1", [found[0], found[2]]),
    ):
        assert rows(make_layer(box_output(f"{ONE} {fields}"), MAP), x) == kept, fields


def test_of_equal_scores_the_last_is_the_best(make_layer: LayerMaker) -> None:
    layer = make_layer(box_output(f"{ONE} fg_thr: 0 max_nms_num: 2"), MAP)
    x = scores_at(MAP, (0, 1, 1, 3), (0, 1, 2, 3), (0, 1, 3, 3))
    assert rows(layer, x) == [[0, 23, 6, 32, 18, 3], [0, 15, 6, 25, 18, 3]]


def test_nothing_found(make_layer: LayerMaker) -> None:
    layer = make_layer(box_output(f"{ONE} fg_thr: 1"), MAP)
    rois, with_score = layer.double()(scores_at(MAP))
    assert rois.flatten().tolist() == [0, 1, 1, 10, 10]
    assert with_score.flatten().tolist() == [0] * 6


def test_several_scales_are_suppressed_together(make_layer: LayerMaker) -> None:
    shapes = (1, 6, 4, 4), (1, 6, 2, 2)
    fields = "field_w: 8 field_h: 8 field_w: 8 field_h: 8 downsample_rate: 4 downsample_rate: 8"
    layer = make_layer(box_output(f"{fields} fg_thr: 0 iou_thr: 0.5"), *shapes)
    maps = scores_at(shapes[0], (0, 1, 1, 1), (0, 3, 3, 2)), scores_at(shapes[1], (0, 0, 0, 3))
    found = rows(layer, *maps)
    assert found[0] == [0, 0, 0, 8, 8, 3]
    assert [row[5] for row in found] == [3, 2, 1]


GROUPS = "box_group_param { field_w: 8 field_h: 8 field_w: 16 field_h: 4 stride: 8 }"


def test_groups_of_fields(make_layer: LayerMaker) -> None:
    shapes = (4, 2, 2, 3), (4, 4, 2, 3)
    fields = f"fg_thr: 0.5 min_size: 4 {GROUPS}"
    text = f'type: "BoxGroupOutput" top: "r" top: "s" box_group_output_param {{ {fields} }}'
    layer = make_layer(text, *shapes)
    scores = torch.ones(shapes[0], dtype=torch.float64)
    scores[1, 0, 1, 1] = 0.25  # the first image's second field
    scores[2, 0, 0, 2] = 0.4  # the second image's first field
    deltas = torch.zeros(shapes[1], dtype=torch.float64)
    deltas[2, 0, 0, 2] = 0.5
    assert rows(layer, scores, deltas) == [[0, 4, 10, 19, 13, 0.75], [1, 20, 0, 24, 7, 0.6]]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ("field_w: 1 field_h: 1", "once for each of 1 bottoms, got 1, 1 and 0"),
        (f'{ONE} nms_type: "X"', "nms_type must be one of IOU, IOMU, IOFU"),
    ],
)
def test_faults(make_layer: LayerMaker, fields: str, words: str) -> None:
    with pytest.raises(NetError, match=words):
        make_layer(box_output(fields), MAP)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((4, 2, 2, 3), (4, 4, 2, 3)) * 2, "2, got 4"),
        (((4, 2, 2, 3), (4, 5, 2, 3)), "needs scores NG C H W and deltas NG 4 H W"),
        (((3, 2, 2, 3), (3, 4, 2, 3)), "needs scores NG C H W and deltas NG 4 H W"),
    ],
)
def test_faults_of_groups(
    make_layer: LayerMaker, shapes: tuple[tuple[int, ...], ...], words: str
) -> None:
    text = f'type: "BoxGroupOutput" box_group_output_param {{ {GROUPS} }}'
    with pytest.raises(NetError, match=words):
        make_layer(text, *shapes)


@pytest.mark.parametrize(
    "group", ["stride: 2", "field_w: 4 field_h: 4", "field_w: 4 field_w: 5 field_h: 4 stride: 2"]
)
def test_what_a_group_needs(make_layer: LayerMaker, group: str) -> None:
    text = f'type: "BoxGroupOutput" box_group_output_param {{ box_group_param {{ {group} }} }}'
    with pytest.raises(NetError, match="needs as many field_w as field_h, and a stride"):
        make_layer(text, (4, 2, 2, 3), (4, 4, 2, 3))


@pytest.mark.parametrize("shape", [(1, 5, 2, 3), (1, 6, 2)])
def test_maps_hold_scores_and_deltas(make_layer: LayerMaker, shape: tuple[int, ...]) -> None:
    with pytest.raises(NetError, match="N C H W of two scores or more and four deltas, got shape"):
        make_layer(box_output(ONE), shape)


def test_mean_without_spread(make_layer: LayerMaker) -> None:
    text = box_output(ONE) + " bbox_reg_param { bbox_mean: 1 bbox_std: 1 }"
    with pytest.raises(NetError, match="must be given 4 times each, got 1 and 1"):
        make_layer(text, MAP)


def test_groups_are_of_the_same_images(make_layer: LayerMaker) -> None:
    group = "box_group_param { field_w: 4 field_h: 4 stride: 2 }"
    text = f'type: "BoxGroupOutput" box_group_output_param {{ {group} {group} }}'
    with pytest.raises(NetError, match=r"the groups have different numbers of images: \[1, 2\]"):
        make_layer(text, (1, 2, 2, 3), (1, 4, 2, 3), (2, 2, 2, 3), (2, 4, 2, 3))
