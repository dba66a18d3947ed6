from __future__ import annotations

import numpy as np
import pytest
from tests.export.onnx.conftest import Export, one_layer

DRAW = np.random.default_rng(5)


def inputs(channels: int = 3, images: int = 2, *, tail: int = 0) -> dict[str, np.ndarray]:
    first = DRAW.random((30, 2)) * 90 - 20
    rois = np.concatenate(
        [DRAW.integers(0, images, (30, 1)), first, first + DRAW.random((30, 2)) * 60 - 5], 1
    )
    rois[:5, 1:] = np.round(rois[:5, 1:])
    rois[5, 1:] = 17  # one pixel
    x = DRAW.standard_normal((images, channels, 7, 9))
    blobs = [x, rois.reshape(30, 5, *(1,) * tail)]
    return {f"x{k}": blob.astype(np.float32) for k, blob in enumerate(blobs)}


def run(export: Export, layer: str, values: dict[str, np.ndarray]) -> None:
    shapes = [" ".join(map(str, blob.shape)) for blob in values.values()]
    export(one_layer(layer, *shapes), check_inputs=values)


SCALES = ["spatial_scale: 0.125", "spatial_scale_h: 0.125 spatial_scale_w: 0.1",
          "spatial_scale: 0.125 pad_ratio: 0.25"]  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", ["pooled_h: 3 pooled_w: 2", "pooled_size: 6"])
def test_roi_pooling(export: Export, scale: str, size: str) -> None:
    layer = f'type: "ROIPooling" roi_pooling_param {{ {size} {scale} }}'
    run(export, layer, inputs())
    run(export, layer, inputs(tail=2))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", ["pooled_h: 3 pooled_w: 2", "pooled_size: 6"])
def test_roi_align(export: Export, scale: str, size: str) -> None:
    run(export, f'type: "ROIAlign" roi_pooling_param {{ {size} {scale} }}', inputs())


@pytest.mark.parametrize("scale", ["spatial_scale: 0.125", "spatial_scale: 0.03"])
@pytest.mark.parametrize("size", ["pooled_h: 3 pooled_w: 2", "pooled_h: 1 pooled_w: 6"])
def test_roi_align_of_ncnn(export: Export, scale: str, size: str) -> None:
    run(export, f'type: "ROIAlign" roi_align_param {{ {size} {scale} }}', inputs())


@pytest.mark.parametrize("scale", ["spatial_scale: 0.125", "spatial_scale: 0.03"])
@pytest.mark.parametrize("ratio", [-1, 1, 2])
def test_roi_align_at_samples(export: Export, scale: str, ratio: int) -> None:
    size = f"pooled_h: 3 pooled_w: 2 sampling_ratio: {ratio}"
    run(export, f'type: "ROIAlign" roi_align_param {{ {size} {scale} }}', inputs())


@pytest.mark.parametrize("group", [1, 3])
def test_psroi_pooling(export: Export, group: int) -> None:
    options = f"spatial_scale: 0.125 output_dim: 2 group_size: {group}"
    layer = f'type: "PSROIPooling" psroi_pooling_param {{ {options} }}'
    run(export, layer, inputs(2 * group * group))


def test_regions_of_the_check_itself(export: Export) -> None:
    """Without inputs to compare on, the regions are zeros and ones."""
    layer = 'type: "ROIPooling" roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 1 }'
    export(one_layer(layer, "1 3 8 8", "4 5"))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", ["pooled_h: 3 pooled_w: 2", "pooled_size: 6"])
def test_roi_pooling_of_opsets_whose_operator_nobody_runs(
    export: Export, scale: str, size: str
) -> None:
    layer = f'type: "ROIPooling" roi_pooling_param {{ {size} {scale} }}'
    values = inputs()
    shapes = [" ".join(map(str, blob.shape)) for blob in values.values()]
    export(one_layer(layer, *shapes), check_inputs=values, opset=22)
    export(one_layer(layer, *shapes), opset=22)
