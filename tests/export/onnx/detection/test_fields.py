from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

DRAW = np.random.default_rng(8)
REGRESSION = """bbox_reg_param { bbox_mean: 0.1 bbox_mean: 0 bbox_mean: -0.1 bbox_mean: 0.2
  bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.3 bbox_std: 0.4 }"""
LIMITS = [
    "fg_thr: 0.3 iou_thr: 0.5",
    "fg_thr: -1 iou_thr: 0.3 max_nms_num: 40 max_post_nms_num: 9",
    "fg_thr: -5 iou_thr: 0.7 min_size: 20 field_whr: 1.5 field_xyr: 4",
    "fg_thr: 50 iou_thr: 0.5",  # nothing is found
]
TOPS = ['top: "regions"', 'top: "regions" top: "scores"']


def values(*shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"x{k}": DRAW.standard_normal(shape) for k, shape in enumerate(shapes)}


def net(layer: str, blobs: dict[str, np.ndarray], tops: str) -> str:
    return one_layer(layer, *(" ".join(map(str, x.shape)) for x in blobs.values()), tops=tops)


@pytest.mark.parametrize("tops", TOPS)
@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("regression", ["", REGRESSION])
@pytest.mark.parametrize("images", [1, 2])
def test_box_output(export: Export, images: int, limits: str, regression: str, tops: str) -> None:
    blobs = values((images, 4 + 4, 6, 7), (images, 2 + 4, 3, 4))
    fields = """field_w: 40 field_h: 50 downsample_rate: 8
      field_w: 70 field_h: 60 downsample_rate: 16"""
    layer = f'type: "BoxOutput" box_output_param {{ {fields} {limits} }} {regression}'
    assert export(net(layer, blobs, tops), check_inputs=blobs).free_batch


@pytest.mark.parametrize("tops", TOPS)
@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize("regression", ["", REGRESSION])
@pytest.mark.parametrize("images", [1, 2])
def test_box_group_output(
    export: Export, images: int, limits: str, regression: str, tops: str
) -> None:
    blobs = values(
        (2 * images, 2, 6, 7), (2 * images, 4, 6, 7), (images, 3, 3, 4), (images, 4, 3, 4)
    )
    groups = """box_group_param { field_w: 40 field_w: 30 field_h: 50 field_h: 60 stride: 8 }
      box_group_param { field_w: 70 field_h: 60 stride: 16 }"""
    layer = f'type: "BoxGroupOutput" box_group_output_param {{ {groups} {limits} }} {regression}'
    export(net(layer, blobs, tops), check_inputs=blobs)


def test_an_overlap_that_onnx_does_not_know(export: Export) -> None:
    fields = "field_w: 40 field_h: 50 downsample_rate: 8"
    layer = f'type: "BoxOutput" box_output_param {{ {fields} nms_type: "IOMU" }}'
    with pytest.raises(NetError, match="NonMaxSuppression has no IOMU"):
        export(one_layer(layer, "1 6 3 4"))
