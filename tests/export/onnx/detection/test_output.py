"""The rows of DetectionOutput, from ONNX's NonMaxSuppression."""

from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

from moka.errors import NetError

N, P, C = 2, 40, 4
DRAW = np.random.default_rng(3)


def boxes(count: int) -> np.ndarray:
    first = DRAW.random((count, 2)) * 0.7
    return np.concatenate([first, first + 0.05 + DRAW.random((count, 2)) * 0.3], 1)


def inputs(*, shared: bool = True, stages: int = 0) -> dict[str, np.ndarray]:
    scores = DRAW.random((N, P, C)) ** 3
    scores /= scores.sum(2, keepdims=True)
    variances = np.tile([0.1, 0.1, 0.2, 0.2], (P, 1))
    blobs = [
        DRAW.standard_normal((N, P * 4 * (1 if shared else C))) * 0.5,
        scores.reshape(N, -1),
        np.stack([boxes(P), variances]).reshape(1, 2, -1),
        DRAW.random((N, P * 2)),
        DRAW.standard_normal((N, P * 4)) * 0.5,
    ]
    return {f"x{k}": blob.astype(np.float32) for k, blob in enumerate(blobs[: 3 + stages])}


def net(options: str, values: dict[str, np.ndarray]) -> str:
    nms = "" if "nms_param" in options else "nms_param { nms_threshold: 0.3 }"
    layer = f"num_classes: {C} {nms} {options}"
    shapes = [" ".join(map(str, blob.shape)) for blob in values.values()]
    return one_layer(f'type: "DetectionOutput" detection_output_param {{ {layer} }}', *shapes)


@pytest.mark.parametrize(
    "options",
    [
        "",
        "code_type: CENTER_SIZE",
        "code_type: CORNER_SIZE variance_encoded_in_target: true",
        "confidence_threshold: 0.3 keep_top_k: 7",
        "keep_top_k: 1 background_label_id: -1",
        "background_label_id: 2 nms_param { top_k: 9 eta: 1 }",
        "nms_param { top_k: 5 } keep_top_k: 12 confidence_threshold: 0.1 code_type: CENTER_SIZE",
        "nms_param { nms_threshold: 0.5 eta: 0.9 }",
        "code_type: CENTER_SIZE clip: true",
    ],
)
@pytest.mark.parametrize("shared", [True, False])
def test_same_rows(export: Export, options: str, shared: bool) -> None:
    values = inputs(shared=shared)
    text = net(f"share_location: {str(shared).lower()} {options}", values)
    done = export(text, check_inputs=values)
    assert done.outputs == {"y": "(1, 1, y_2, 7)"}


@pytest.mark.parametrize("stages", [1, 2])
@pytest.mark.parametrize("shared", [True, False])
def test_stages_of_refinedet(export: Export, stages: int, shared: bool) -> None:
    values = inputs(shared=shared, stages=stages)
    options = f"share_location: {str(shared).lower()} objectness_score: 0.4 code_type: CENTER_SIZE"
    export(net(f"{options} confidence_threshold: 0.2", values), check_inputs=values)


def test_nothing_found(export: Export) -> None:
    values = inputs()
    export(net("confidence_threshold: 2 keep_top_k: 5", values), check_inputs=values)
    export(net("confidence_threshold: 2", values), check_inputs=values)


def test_equal_scores(export: Export) -> None:
    values = inputs()
    values["x1"] = np.round(values["x1"] * 4) / 4
    for options in (
        "nms_param { top_k: 6 }",
        "keep_top_k: 9",
        "nms_param { top_k: 11 } keep_top_k: 4",
    ):
        export(net(options, values), check_inputs=values)


def test_a_falling_threshold_is_refused(export: Export) -> None:
    values = inputs()
    with pytest.raises(NetError, match=r'layer "it" \(DetectionOutput\): cannot .* eta below 1'):
        export(net("nms_param { nms_threshold: 0.6 eta: 0.9 }", values))
