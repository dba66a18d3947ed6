from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

DRAW = np.random.default_rng(1)


@pytest.mark.parametrize("fill", ["ZERO", "NOT_A_NUMBER"])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 1, 1, 4)])
def test_flow_warp(export: Export, fill: str, shape: tuple[int, ...]) -> None:
    n, _, h, w = shape
    layer = f'type: "FlowWarp" flow_warp_param {{ fill_value: {fill} }}'
    text = one_layer(layer, " ".join(map(str, shape)), f"{n} 2 {h} {w}")
    assert export(text).free_batch
    flow = DRAW.standard_normal((n, 2, h, w)) * 2
    flow[0, :, 0, 0] = 0.75  # between the last row, or column, and its repetition
    flow[0, :, -1, -1] = 0.5
    export(text, check_inputs={"x0": DRAW.standard_normal(shape), "x1": flow})


@pytest.mark.parametrize("shape", ["2 3 4 5", "3 4", "2 1 3"])
def test_channel_norm(export: Export, shape: str) -> None:
    assert export(one_layer('type: "ChannelNorm"', shape)).free_batch
