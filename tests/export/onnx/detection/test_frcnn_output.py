from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer
from tests.export.onnx.detection.test_stages import REGRESSION, regions

from moka.errors import NetError

DRAW = np.random.default_rng(10)
R, C = 30, 4


def inputs(*, aware: bool) -> dict[str, np.ndarray]:
    scores = DRAW.random((R, C))
    boxes = regions(R)
    boxes[:, 0] = 0
    deltas = DRAW.standard_normal((R, 4 * C if aware else 8)) * 0.3
    size = np.array([[120.0, 150.0]])
    return {"x0": scores / scores.sum(1, keepdims=True), "x1": deltas, "x2": boxes, "x3": size}


def net(options: str, blobs: dict[str, np.ndarray], regression: str) -> str:
    shapes = [" ".join(map(str, x.shape)) for x in blobs.values()]
    return one_layer(
        f'type: "FrcnnOutput" frcnn_output_param {{ {options} }} {regression}', *shapes
    )


@pytest.mark.parametrize("aware", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        "conf_thr: 0.2 iou_thr: 0.5",
        "conf_thr: 0.05 iou_thr: 0.3 max_det_num: 11",
        "conf_thr: 0.3 iou_thr: 0.5 max_det_num: 500",
        "conf_thr: 2 max_det_num: 5",  # nothing is found
    ],
)
def test_same_rows(export: Export, options: str, aware: bool) -> None:
    blobs = inputs(aware=aware)
    regression = REGRESSION.replace("{", f"{{ cls_aware: {str(aware).lower()} ", 1)
    export(net(options, blobs, regression), check_inputs=blobs)


def test_regions_with_scores(export: Export) -> None:
    blobs = inputs(aware=True)
    blobs["x2"] = np.concatenate([blobs["x2"], DRAW.random((R, 1))], 1)
    export(net("conf_thr: 0.3", blobs, ""), check_inputs=blobs)


def test_an_overlap_that_onnx_does_not_know(export: Export) -> None:
    with pytest.raises(NetError, match="NonMaxSuppression has no IOFU"):
        export(net('nms_type: "IOFU"', inputs(aware=True), ""))
