from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer


@pytest.mark.parametrize("options", ["height: 9 width: 7", "zoom_factor: 3", "shrink_factor: 2",
                                     "height: 4 width: 3 pad_beg: -1 pad_end: -1"])  # fmt: skip
@pytest.mark.parametrize("opset", [13, 18])
def test_interp(export: Export, options: str, opset: int) -> None:
    assert export(
        one_layer(f'type: "Interp" interp_param {{ {options} }}', "2 3 5 6"), opset=opset
    ).free_batch


@pytest.mark.parametrize("kind", ["NEAREST", "LINEAR", "CUBIC"])
@pytest.mark.parametrize("size", ["height: 9 width: 3", "factor: 2"])
def test_resample(export: Export, kind: str, size: str) -> None:
    export(one_layer(f'type: "Resample" resample_param {{ type: {kind} {size} }}', "2 3 5 6"))


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ("", ["2 3 5 6", "2 1 7 4", "2 2 7 6"]),
        ("top_height: 9 top_width: 8", ["2 3 5 6", "2 1 7 4"]),
        ("size_divisible_by: 4", ["2 3 5 6"]),
        ("have_reference: true", ["2 3 5 6", "2 1 9 9", "2 1 4 8"]),
        ("have_reference: true", ["2 3 5 6", "2 1 1 1"]),
    ],
)
def test_accum(export: Export, options: str, shapes: list[str]) -> None:
    assert export(one_layer(f'type: "Accum" accum_param {{ {options} }}', *shapes)).free_batch


@pytest.mark.parametrize(
    ("options", "shapes"),
    [
        ("top_height: 3 top_width: 4", ["2 3 8 9"]),
        ("top_height: 8 top_width: 5", ["2 3 8 9"]),
        ("top_height: 8 top_width: 9", ["2 3 8 9"]),
        ("", ["2 3 8 9", "2 1 4 3"]),
    ],
)
def test_downsample_leaves_unknown_values_out(
    export: Export, options: str, shapes: list[str]
) -> None:
    text = one_layer(f'type: "Downsample" downsample_param {{ {options} }}', *shapes)
    assert export(text).free_batch
    draw = np.random.default_rng(0)
    x = draw.standard_normal((2, 3, 8, 9))
    x[draw.random(x.shape) < 0.3] = np.nan
    export(text, check_inputs={"x0": x})


@pytest.mark.parametrize("kind", ["BILINEAR", "NEAREST"])
@pytest.mark.parametrize("fields", ["new_height: 3 new_width: 8", "scale_h: 2 scale_w: 2"])
def test_deephi_resize(export: Export, kind: str, fields: str) -> None:
    layer = f'type: "DeephiResize" deephi_resize_param {{ {fields} resize_type: {kind} }}'
    assert export(one_layer(layer, "2 3 4 5")).free_batch


@pytest.mark.parametrize("rule", ["", "align_corners: true", "half_pixel_centers: true"])
@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
def test_resize_bilinear(export: Export, rule: str, order: str) -> None:
    fields = f'output_height: 3 scale_width: 2 data_format: "{order}" {rule}'
    layer = f'type: "ResizeBilinear" resize_bilinear_param {{ {fields} }}'
    assert export(one_layer(layer, "2 3 4 5")).free_batch


@pytest.mark.parametrize("rule", ["", "align_corners: true", "half_pixel_centers: true"])
@pytest.mark.parametrize("order", ["NHWC", "NCHW"])
@pytest.mark.parametrize("size", ["scale_height: 2 scale_width: 3", "output_height: 3"])
def test_resize_nearest_neighbor(export: Export, rule: str, order: str, size: str) -> None:
    fields = f'{size} data_format: "{order}" {rule}'
    layer = f'type: "ResizeNearestNeighbor" resize_nearest_neighbor_param {{ {fields} }}'
    assert export(one_layer(layer, "2 3 4 5")).free_batch
