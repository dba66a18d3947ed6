from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

H, W, A = 5, 6, 9
DRAW = np.random.default_rng(4)


def inputs(images: int = 1, facts: int = 1, values: int = 3) -> dict[str, np.ndarray]:
    score = DRAW.random((images, A, H, W))
    info = np.array([[70.0, 90.0, 1.5, 1.25], [64.0, 96.0, 1.0, 1.0]])[:facts, :values]
    blobs = [
        np.concatenate([1 - score, score], 1),
        DRAW.standard_normal((images, 4 * A, H, W)) * 0.3,
        info,
    ]
    return {f"x{k}": blob.astype(np.float32) for k, blob in enumerate(blobs)}


def net(options: str, values: dict[str, np.ndarray], tops: str = 'top: "rois"') -> str:
    shapes = [" ".join(map(str, blob.shape)) for blob in values.values()]
    return one_layer(f'type: "Proposal" proposal_param {{ {options} }}', *shapes, tops=tops)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "pre_nms_topn: 30 post_nms_topn: 8 nms_thresh: 0.5",
        "pre_nms_topn: 0 post_nms_topn: 0",
        "min_size: 40",
        "clip_before_nms: false clip_after_nms: true",
        "normalize: true box_coordinate_scale: 10 box_size_scale: 5",
        "feat_stride: 8 base_size: 8 ratio: 1 ratio: 0.7 ratio: 2 scale: 1 scale: 2 scale: 3",
    ],
)
@pytest.mark.parametrize(("images", "facts"), [(1, 1), (2, 1), (2, 2)])
def test_same_regions(export: Export, options: str, images: int, facts: int) -> None:
    values = inputs(images, facts)
    done = export(
        net(options, values, 'top: "rois" top: "scores"'), check_inputs=values, batch=None
    )
    assert list(done.outputs) == ["rois", "scores"]


def test_two_scales(export: Export) -> None:
    values = inputs(values=4)
    export(net("min_size: 30", values), check_inputs=values)


def test_nothing_large_enough(export: Export) -> None:
    values = inputs()
    export(net("min_size: 4000", values), check_inputs=values)


def test_no_numbers(export: Export) -> None:
    values = inputs()
    values["x0"][0, A, 2, 2] = np.nan
    export(net("", values), check_inputs=values)


@pytest.mark.parametrize("tops", ['top: "rois"', 'top: "rois" top: "scores"'])
@pytest.mark.parametrize(
    "settings", ["", ", 'RPN_PRE_NMS_TOP_N': 50, 'RPN_POST_NMS_TOP_N': 7, 'RPN_MIN_SIZE': 30"]
)
def test_the_python_layer_of_py_faster_rcnn(export: Export, settings: str, tops: str) -> None:
    layer = f"""type: "Python" python_param {{ module: "rpn.proposal_layer"
      layer: "ProposalLayer" param_str: "'feat_stride': 16{settings}" }}"""
    values = inputs()
    shapes = [" ".join(map(str, blob.shape)) for blob in values.values()]
    done = export(one_layer(layer, *shapes, tops=tops), check_inputs=values)
    assert done.outputs["rois"] == "(rois_0, 5)"
