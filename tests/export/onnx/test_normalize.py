from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("size", [1, 3, 5, 11])
@pytest.mark.parametrize("region", ["ACROSS_CHANNELS", "WITHIN_CHANNEL"])
@pytest.mark.parametrize("beta", [0.6, 0.75])
def test_lrn(export: Export, size: int, region: str, beta: float) -> None:
    options = f"local_size: {size} alpha: 0.7 beta: {beta} norm_region: {region}"
    export(one_layer(f'type: "LRN" lrn_param {{ {options} }}', "2 6 12 11"))


def test_lrn_of_many_channels(export: Export) -> None:
    done = export(one_layer('type: "LRN" lrn_param { local_size: 3 alpha: 2 }', "2 1100 2 2"))
    assert done.nodes == 1


def test_lrn_k(export: Export) -> None:
    export(one_layer('type: "LRN" lrn_param { local_size: 3 alpha: 2 k: 3 }', "2 6 4 4"))


@pytest.mark.parametrize("shape", ["2 3", "2 3 4", "3 4 5 6", "1 2 3 4 5"])
@pytest.mark.parametrize("fold", [True, False])
def test_batch_norm(export: Export, shape: str, fold: bool) -> None:
    done = export(one_layer('type: "BatchNorm" batch_norm_param { eps: 0.01 }', shape), fold=fold)
    assert done.nodes == 1


@pytest.mark.parametrize("shape", ["4 3", "3 4 5 6"])
def test_batch_norm_with_the_statistics_of_the_batch(export: Export, shape: str) -> None:
    layer = 'type: "BatchNorm" batch_norm_param { use_global_stats: false }'
    export(one_layer(layer, shape), batch=int(shape[0]))


@pytest.mark.parametrize("options", ["", "across_channels: true", "normalize_variance: false"])
@pytest.mark.parametrize("shape", ["2 3 4", "2 3 4 5", "4 3"])
def test_mvn(export: Export, options: str, shape: str) -> None:
    export(one_layer(f'type: "MVN" mvn_param {{ {options} eps: 0.1 }}', shape))


@pytest.mark.parametrize("options", ["", "bias: 0.5"])
@pytest.mark.parametrize("shape", ["2 3", "2 3 4 5"])
def test_grn(export: Export, options: str, shape: str) -> None:
    assert export(one_layer(f'type: "GRN" grn_param {{ {options} }}', shape)).free_batch


@pytest.mark.parametrize("shape", ["3", "2 3", "2 3 4 5 2"])
def test_l2_normalize(export: Export, shape: str) -> None:
    assert export(one_layer('type: "L2Normalize"', shape)).free_batch
