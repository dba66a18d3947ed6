from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

DRAW = np.random.default_rng(9)
REGRESSION = """bbox_reg_param { bbox_mean: 0 bbox_mean: 0 bbox_mean: -0.1 bbox_mean: 0
  bbox_std: 0.1 bbox_std: 0.1 bbox_std: 0.2 bbox_std: 0.2 }"""


def regions(count: int) -> np.ndarray:
    first = DRAW.random((count, 2)) * 100
    sides = DRAW.random((count, 2)) * 90
    image = DRAW.integers(0, 2, (count, 1))
    return np.concatenate([image, first, first + sides], 1)


@pytest.mark.parametrize("regression", ["", REGRESSION])
@pytest.mark.parametrize("tail", ["", " 1 1"])
def test_decode_bbox(export: Export, regression: str, tail: str) -> None:
    text = one_layer(f'type: "DecodeBBox" {regression}', f"6 8{tail}", f"6 5{tail}")
    shape = (1, 1) if tail else ()
    deltas = DRAW.standard_normal((6, 8, *shape)) * 0.4
    export(text, check_inputs={"x0": deltas, "x1": regions(6).reshape(6, 5, *shape)})


@pytest.mark.parametrize(
    "limits",
    ["low_scale: 30", "high_scale: 40", "low_scale: 30 high_scale: 50", "",
     "low_scale: 5000", "low_scale: 900 high_scale: 1000"],
)  # fmt: skip
def test_scale_route(export: Export, limits: str) -> None:
    layer = f'type: "ScaleRoute" scale_route_param {{ {limits} }}'
    text = one_layer(layer, "9 5 1 1", "9 3 2", tops='top: "regions" top: "features"')
    values = {"x0": regions(9).reshape(9, 5, 1, 1), "x1": DRAW.standard_normal((9, 3, 2))}
    done = export(text, check_inputs=values)
    assert done.outputs["features"] == "(features_0, 3, 2)"


def test_the_nearest_region_if_none_is_in_the_range(export: Export) -> None:
    layer = 'type: "ScaleRoute" scale_route_param { low_scale: 40 high_scale: 44 }'
    boxes = np.array([[0, 0, 0, 9, 9], [0, 0, 0, 45, 45], [0, 0, 0, 999, 999], [0, 0, 0, 45, 45]])
    export(one_layer(layer, "4 5"), check_inputs={"x0": boxes})
