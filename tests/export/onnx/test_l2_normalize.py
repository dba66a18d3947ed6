from __future__ import annotations

import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize(
    "options",
    [
        "",
        "across_spatial: false",
        "channel_shared: false",
        "across_spatial: false channel_shared: false eps: 0.1",
    ],
)
@pytest.mark.parametrize("shape", ["2 3", "2 3 4 5"])
def test_of_ssd(export: Export, options: str, shape: str) -> None:
    export(one_layer(f'type: "Normalize" norm_param {{ {options} }}', shape))


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("tops", ['top: "y"', 'top: "y" top: "norm"'])
def test_of_caffe_windows(export: Export, kind: str, tops: str) -> None:
    layer = f'type: "Normalize" normalize_param {{ normalize_type: "{kind}" }}'
    export(one_layer(layer, "2 3 4 5", tops=tops))


@pytest.mark.parametrize("shape", ["4", "2 3", "2 3 4 5"])
def test_of_whole_items(export: Export, shape: str) -> None:
    export(one_layer('type: "Normalization"', shape))


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        ('type: "L2Norm" l2norm_param { eps: 0.5 }', "2 3 4 5"),
        ('type: "L2Norm"', "2 3"),
        ('type: "L2Normalization"', "2 3 1 1"),
        ('type: "Norm"', "2 3 4 5"),
    ],
)
def test_of_many_forks(export: Export, layer: str, shape: str) -> None:
    assert export(one_layer(layer, shape)).free_batch
