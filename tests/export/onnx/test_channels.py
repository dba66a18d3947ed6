from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("factor", ["2 3", "2 3 1 1"])
def test_axpy(export: Export, factor: str) -> None:
    export(one_layer('type: "Axpy"', factor, "2 3 4 5", "2 3 4 5"))


@pytest.mark.parametrize("options", ["", "do_forward: false", "do_backward_scale: false"])
@pytest.mark.parametrize(("shape", "factor"), [("2 3 4 5", "2 4 5"), ("2 3", "2"), ("2 3", "2 1")])
def test_channel_scale(export: Export, options: str, shape: str, factor: str) -> None:
    layer = f'type: "ChannelScale" channel_scale_param {{ {options} }}'
    assert export(one_layer(layer, shape, factor)).free_batch


@pytest.mark.parametrize("limits", ["", "max_global_scale: 0.01", "min_global_scale: 30"])
def test_one_factor_for_all(export: Export, limits: str) -> None:
    layer = f'type: "ChannelScale" channel_scale_param {{ global_scale: true {limits} }}'
    export(one_layer(layer, "2 3 4", "2 4", tops='top: "y" top: "factor"'))


@pytest.mark.parametrize("tops", ['top: "y"', 'top: "y" top: "mask"'])
@pytest.mark.parametrize("options", ["chgroup_sz: 2", "chgroup_sz: 3 minout: true"])
def test_maxout(export: Export, options: str, tops: str) -> None:
    layer = f'type: "Maxout" maxout_param {{ {options} }}'
    assert export(one_layer(layer, "2 6 4 5", tops=tops)).free_batch


@pytest.mark.parametrize("shared", ["true", "false"])
@pytest.mark.parametrize("shape", ["2 3 4 5", "2 3"])
def test_eltwise_affine(export: Export, shape: str, shared: str) -> None:
    filler = 'filler { type: "uniform" min: 1 max: 2 }'
    options = f"channel_shared: {shared} slope_{filler} bias_{filler}"
    layer = f'type: "EltwiseAffine" eltwise_affine_param {{ {options} }}'
    assert export(one_layer(layer, shape)).free_batch
